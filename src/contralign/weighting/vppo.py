"""VPPO's token filter: train on the tokens at which the picture changes the model's mind most."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted
from contralign.weighting.selection import Over, Selection


@dataclass(frozen=True, kw_only=True)
class Vppo(Selection):
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

    readings: ClassVar[tuple[Wanted, ...]] = ("kl",)

    keep: float = 0.4
    over: Over = "sample"

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; 0 or 1."""
        with torch.no_grad():
            return self.select(tokens, tokens["kl"])
