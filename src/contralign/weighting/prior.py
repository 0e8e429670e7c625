"""PRIOR: a token counts the more, the less likely it is to somebody who reads the text alone."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted, Weighting, check_number


@dataclass(frozen=True, kw_only=True)
class Prior(Weighting):
    """w = (1 − q)^power, where q is the probability of the label without the picture.

    Source: Chen, Peng, Zhang and Ji, "Prioritizing Image-Related Tokens Enhances Vision-Language Pre-Training" (PRIOR),
    arXiv 2505.08971, 2025. The paper weighs a token's loss by a score that falls as the probability rises which a
    text-only language model, trained on the captions, gives the token; no code of it is public. The power form is ours.
    Ours differs further: q comes from the trained model's own look without the picture, as CAL's does, or from the
    `nll_without` of a score file, which may be another model's; and the loss is divided by Σ w.

    Attributes:
        power: above 0; larger silences predictable tokens sooner.

    Raises:
        ValueError: `power` out of range.
    """

    readings: ClassVar[tuple[Wanted, ...]] = ("nll_without",)

    power: float = 1.0

    def __post_init__(self) -> None:
        check_number("power", self.power, 0, above=True)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; in [0, 1]."""
        with torch.no_grad():
            unlikely = -torch.expm1(-tokens["nll_without"].clamp(min=0))
            return tokens.beside_text(unlikely**self.power)
