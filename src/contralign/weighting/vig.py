"""VIG: train on the tokens that the picture makes likelier, and on no others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Wanted
from contralign.weighting.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Vig(Selection):
    """w = 1 for the top share of tokens by visual information gain, log p(with) − log p(without), else 0.

    Source: Lee and Hwang, "Selective Training for Large Vision Language Models via Visual Information Gain", arXiv
    2602.17186, 2026: token-level VIG = −log q(a|Q) + log q(a|Q, I). The paper measures it once, before instruction
    tuning, against a blurred picture; keeps the top 70 % of samples by their mean VIG; and of those the tokens above
    the same threshold. Ours differs: the token selection alone, by a share of its own, and measured anew at every step
    unless a score file is given, which is the paper's way, as `contrast="blur"` is.

    Attributes:
        keep: share of label tokens, in (0, 1].
        over: the share of the micro-batch's tokens, or of each sample's; see `top_share`.

    Raises:
        ValueError: a setting out of range.
    """

    readings: ClassVar[tuple[Wanted, ...]] = ("delta_logprob",)

    keep: float = 0.7

    def __call__(self, tokens: TokenReadings) -> Float[Tensor, "batch seq"]:
        """See `Weighting`; 0 or 1."""
        with torch.no_grad():
            return self.select(tokens, tokens["delta_logprob"])
