"""Contrast "drop": image tokens are taken out and the text keeps its positions (section A.4, last sentence).

For causal attention this equals hiding the image keys, and costs the text tokens alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from contralign.batch import IGNORE_INDEX, VLBatch
from contralign.contrast.packing import pack_rows


@dataclass(frozen=True)
class DropImage:
    """Take image tokens out of the sequence.

    What cannot change any Δ goes too: rows whose labels see no picture, labels before the first picture, padding, and
    tokens after the last label.

    Attributes:
        pack: lay several short rows into one, and compute once what all of them begin with; the view then needs an
            attention mask over pairs of tokens, which not every model takes.
    """

    pack: bool = False

    name: ClassVar[str] = "drop"
    reencodes: ClassVar[bool] = False

    def __call__(self, batch: VLBatch) -> VLBatch:
        """A view of the text tokens, packed to the left; it may have no rows at all."""
        sees_picture = batch.image_mask.cumsum(dim=1) > 0
        labelled = (batch.labels != IGNORE_INDEX) & sees_picture
        keep = batch.attention_mask.bool() & ~batch.image_mask & _up_to_last(labelled)
        batch = replace(batch, labels=batch.labels.masked_fill(~labelled, IGNORE_INDEX))
        return pack_rows(batch, keep, may_share=~sees_picture, several_in_one=self.pack)


def _up_to_last(mask: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True up to the last True of a row; a row without any has none."""
    return mask.flip(1).cumsum(dim=1).flip(1) > 0
