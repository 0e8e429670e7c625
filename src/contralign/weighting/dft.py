"""DFT: a token counts as much as the model believes in it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted, Weighting


@dataclass(frozen=True, kw_only=True)
class Dft(Weighting):
    """w = p, the model's own probability of the label with the picture; no second look.

    Source: Wu et al., "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification"
    (Dynamic Fine-Tuning), arXiv 2508.05629, 2025: the loss of a token is multiplied by its probability, detached. The
    authors divide by the number of tokens; here, as for every weighting, the loss is divided by Σ w, so that it keeps
    the scale of MLE and the learning rate its meaning. Rows without a picture keep weight 1, which the paper, knowing
    no pictures, does not say.
    """

    readings: ClassVar[tuple[Wanted, ...]] = ("nll",)

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; in [0, 1]."""
        with torch.no_grad():
            return tokens.beside_text(torch.exp(-tokens["nll"]))
