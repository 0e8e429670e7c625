"""Every label token counts the same: plain maximum likelihood, through the same fast loss."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted, Weighting


@dataclass(frozen=True, kw_only=True)
class Uniform(Weighting):
    """w = 1 (equation 2 of the CAL paper)."""

    readings: ClassVar[tuple[Wanted, ...]] = ()

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`."""
        return tokens.valid.float()
