"""Rho-1: train on the tokens at which the model is furthest behind a reference model."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted
from contralign.weighting.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Rho1(Selection):
    """w = 1 for the top share of tokens by excess loss, nll − nll of the reference, else 0.

    Source: Lin et al., "Not All Tokens Are What You Need for Pretraining" (Rho-1), arXiv 2404.07965, NeurIPS 2024:
    selective language modelling keeps the top k % of a batch's tokens by excess loss and averages the loss over them.
    The reference is trained on clean data and scores all tokens once: here it is whatever model wrote the score file
    (`contralign score`, column `nll`). Ours differs: no second look, so Δ is 0 and the picture plays no part but in the
    losses; labels of rows without a picture are not selected among, and weigh 1.

    Attributes:
        keep: share of label tokens, in (0, 1]; the paper uses 0.6 to 0.7.
        over: the share of the micro-batch's tokens, as in the paper, or of each sample's; see `top_share`.

    Raises:
        ValueError: a setting out of range.
    """

    readings: ClassVar[tuple[Wanted, ...]] = ("nll", "reference_nll")

    keep: float = 0.6

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; 0 or 1."""
        with torch.no_grad():
            return self.select(tokens, tokens["nll"] - tokens["reference_nll"])
