"""VPPO's token filter: train on the tokens at which the picture changes the model's mind most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted, Weighting, check_number
from contralign.weighting.selection import Over, check_over, top_share


@dataclass(frozen=True, kw_only=True)
class Vppo(Weighting):
    """w = 1 for the top share of a sample's tokens by KL(p with the picture ‖ p without), else 0.

    Source: Huang et al., "Spotlight on Token Perception for Multimodal Reinforcement Learning" (VPPO), arXiv
    2510.09285, 2025: the gradient of a response passes only through its top-k share of tokens by visual dependency.
    There the tokens are the model's own, the second look is a masked picture, the released code estimates KL from the
    sampled token alone (share 0.4 in its scripts) and also scales whole responses by their mean dependency. Ours is for
    labels: KL over the whole vocabulary, the token filter alone.

    Attributes:
        keep: share of label tokens, in (0, 1].
        over: of each sample's tokens, as in the paper, or of the micro-batch's; see `top_share`.

    Raises:
        ValueError: a setting out of range.
    """

    keep: float = 0.4
    over: Over = "sample"

    def __post_init__(self) -> None:
        check_number("keep", self.keep, 0, above=True, high=1)
        check_over(self.over)

    @property
    def readings(self) -> tuple[Wanted, ...]:
        """KL between the two looks."""
        return ("kl",)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; 0 or 1."""
        with torch.no_grad():
            perception = tokens["kl"]
            chosen = top_share(perception, tokens.pictured, self.keep, self.over)
            return tokens.beside_text(chosen.to(perception.dtype))
