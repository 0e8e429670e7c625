"""TPO's reward as a weight: a sigmoid of Δ, half as much to half as much again."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.core.settings import Score
from contralign.weighting.base import TokenReadings, Wanted, Weighting, check_number, delta_of


@dataclass(frozen=True, kw_only=True)
class Tpo(Weighting):
    """w = margin + σ(Δ).

    Source: Gu et al., "Token Preference Optimization with Self-Calibrated Visual-Anchored Rewards for Hallucination
    Mitigation" (TPO), arXiv 2412.14487, equations 4 and 5: s is the difference of a token's raw logits with the picture
    and with a noisy one, and a preferred answer's reward is c = a + σ(s) with a = 0.5, so that s = 0 gives 1. There c
    scales probabilities inside a DPO loss over pairs. Ours takes it as the weight of a token in maximum likelihood, and
    the second look is the configured contrast. `score="logit"` is the paper's s, "logprob" the same in nats.

    Attributes:
        margin: a of the paper, 0 or more: smallest weight, so that none exceeds 1 + margin.
        score: what Δ is a difference of.

    Raises:
        ValueError: a setting out of range.
    """

    margin: float = 0.5
    score: Score = "logit"

    def __post_init__(self) -> None:
        check_number("margin", self.margin, 0)
        delta_of(self.score)

    @property
    def readings(self) -> tuple[Wanted, ...]:
        """Δ."""
        return (delta_of(self.score),)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; between `margin` and 1 + `margin`."""
        with torch.no_grad():
            return tokens.beside_text(self.margin + torch.sigmoid(tokens[self.readings[0]]))
