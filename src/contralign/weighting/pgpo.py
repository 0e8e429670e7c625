"""PGPO's gate: tokens below a threshold of perception count less, those above it more, and a sample as much as ever."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.core.loss import ratio
from contralign.weighting.base import TokenReadings, Wanted, Weighting, check_number


@dataclass(frozen=True, kw_only=True)
class Pgpo(Weighting):
    """A threshold gate on perception, with a mean weight of 1 in every sample.

    With S the KL divergence of the two looks and I = log(1 + S), brought to [0, 1] inside a sample by its smallest and
    largest value: w = I / τ below the threshold τ and 1 + boost · (I − τ) / (1 − τ) above it, then w is scaled so that
    a sample's weights add up to the number of its labels. A sample whose tokens are all equal weighs 1 throughout.

    Source: Ye et al., "Not All Tokens See Equally: Perception-Grounded Policy Optimization for Large Vision-Language
    Models" (PGPO), arXiv 2604.01840, 2026, as described in a public re-implementation (the authors' code is not out);
    τ = 0.4 and a boost (β) of 2. There the weights multiply advantages of the model's own tokens, and S is estimated
    from the sampled token alone; ours weighs the loss of labels, by KL over the whole vocabulary.

    Attributes:
        threshold: τ, between 0 and 1.
        boost: how far above 1 the most perceptive token goes before scaling, 0 or more.

    Raises:
        ValueError: a setting out of range.
    """

    readings: ClassVar[tuple[Wanted, ...]] = ("kl",)

    threshold: float = 0.4
    boost: float = 2.0

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0, above=True, high=1)
        if self.threshold == 1:
            raise ValueError("threshold=1: wanted less than 1, or nothing lies above it")
        check_number("boost", self.boost, 0)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; with mean 1 over the label tokens of a sample."""
        with torch.no_grad():
            share = _brought_to_unit(torch.log1p(tokens["kl"].clamp(min=0)), tokens.pictured)
            above = 1 + self.boost * (share - self.threshold) / (1 - self.threshold)
            gate = torch.where(share < self.threshold, share / self.threshold, above)
            gate = torch.where(tokens.pictured, gate, gate.new_zeros(()))
            count = tokens.pictured.sum(dim=1, keepdim=True)
            return tokens.beside_text(gate * ratio(count.to(gate), gate.sum(dim=1, keepdim=True)))


def _brought_to_unit(
    values: Float[Tensor, "batch seq"], among: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq"]:
    """Values on the way from a row's smallest (0) to its largest (1); 1 where they are all equal."""
    if values.shape[1] == 0:
        return values
    low = torch.where(among, values, torch.inf).amin(dim=1, keepdim=True)
    high = torch.where(among, values, -torch.inf).amax(dim=1, keepdim=True)
    span = high - low
    return torch.where(span > 0, (values - low) / torch.where(span > 0, span, torch.ones_like(span)), 1.0)
