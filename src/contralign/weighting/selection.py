"""The top share of label tokens by some value: those that weigh 1 where a rule trains on some tokens only."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.weighting.base import TokenReadings, Weighting, check_number

Over = Literal["batch", "sample"]


@dataclass(frozen=True, kw_only=True)
class Selection(Weighting):
    """What all rules share that train on the top share of tokens: weight 1 for those, 0 for the others.

    Attributes:
        keep: share of label tokens, in (0, 1].
        over: the share of the micro-batch's tokens, or of each sample's; see `top_share`.

    Raises:
        ValueError: a setting out of range.
    """

    keep: float
    over: Over = "batch"

    def __post_init__(self) -> None:
        check_number("keep", self.keep, 0, above=True, high=1)
        if self.over not in get_args(Over):
            raise ValueError(f"over={self.over!r}: wanted one of {', '.join(get_args(Over))}")

    def select(self, tokens: TokenReadings, values: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
        """Weights 0 and 1 by values of label tokens; see `Weighting.__call__`."""
        chosen = top_share(values, tokens.pictured, self.keep, self.over)
        return tokens.beside_text(chosen.to(values.dtype))


def top_share(
    values: Float[Tensor, "batch seq"], among: Bool[Tensor, "batch seq"], keep: float, over: Over
) -> Bool[Tensor, "batch seq"]:
    """Choose the tokens with the largest values: ⌈keep · n⌉ of n, and with them all that equal the last one.

    So the choice does not hang on the order of tokens, and where all values are equal all are kept.

    Args:
        values: to choose by.
        among: the tokens to choose among; the others are not chosen.
        keep: share in (0, 1].
        over: n tokens of the micro-batch, or of each sample. What is chosen over the micro-batch depends on how a step
            is split into micro-batches; what is chosen in a sample does not.
    """
    if values.numel() == 0:
        return among
    if over == "batch":
        return top_share(values.reshape(1, -1), among.reshape(1, -1), keep, "sample").view_as(among)
    ranked = torch.where(among, values, -torch.inf).sort(dim=1, descending=True).values
    # 0.07 · 100 is a hair above 7 in floating point and must not make it 8.
    count = (keep * among.sum(dim=1, keepdim=True).double() - 1e-9).ceil().long()
    last = ranked.gather(1, (count - 1).clamp(min=0))
    return among & (values >= last)
