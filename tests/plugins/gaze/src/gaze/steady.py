"""A weighting that inherits from nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from contralign.weighting import TokenReadings


@dataclass(frozen=True)
class Steady:
    """w = 2 sigmoid(slope · Δ) of log-probabilities: between 0 and 2, and 1 where the picture says nothing."""

    readings: ClassVar = ("delta_logprob",)

    slope: float = 1.0

    def __call__(self, tokens: TokenReadings) -> torch.Tensor:
        with torch.no_grad():
            return tokens.beside_text(2 * torch.sigmoid(self.slope * tokens["delta_logprob"]))
