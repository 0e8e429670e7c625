"""Taking image tokens out of a batch, and which of their places may stay for something that stands in."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from contralign.batch import IGNORE_INDEX, VLBatch
from contralign.contrast.packing import pack_rows


def take_out(batch: VLBatch, taken: Bool[Tensor, "batch seq"], pack: bool = False) -> VLBatch:
    """A view without some tokens, packed to the left; what stays keeps its position ids.

    What cannot change any Δ goes too: rows whose labels see no picture, labels before the first picture, padding, and
    tokens after the last label. The view may have no rows at all. Where tokens look ahead, a text before the picture
    may see it, and a label may see the text behind it.

    Args:
        batch: as the adapter prepared it, or with other embeddings in the places of image tokens.
        taken: the tokens that go.
        pack: see `pack_rows`.
    """
    noncausal = batch.noncausal & batch.has_image.unsqueeze(1)
    sees_picture = (batch.image_mask | noncausal).cumsum(dim=1) > 0
    labelled = (batch.labels != IGNORE_INDEX) & sees_picture
    seen = labelled | (noncausal & labelled.any(dim=1, keepdim=True))
    keep = batch.attention_mask.bool() & ~taken & _up_to_last(seen)
    batch = replace(batch, labels=batch.labels.masked_fill(~labelled, IGNORE_INDEX))
    return pack_rows(batch, keep, may_share=~sees_picture, several_in_one=pack)


def last_of_runs(image_mask: Bool[Tensor, "batch seq"], count: int) -> Bool[Tensor, "batch seq"]:
    """True at the last `count` tokens of every unbroken run of image tokens; at all of a run that is shorter."""
    earlier = image_mask
    for _ in range(count):
        earlier = image_mask & torch.cat([earlier[:, 1:], torch.zeros_like(earlier[:, :1])], dim=1)
    return image_mask & ~earlier


def first_run(image_mask: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True in the first unbroken run of image tokens of every row."""
    before = torch.cat([torch.zeros_like(image_mask[:, :1]), image_mask[:, :-1]], dim=1)
    return image_mask & ((image_mask & ~before).cumsum(dim=1) == 1)


def _up_to_last(mask: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True up to the last True of a row; a row without any has none."""
    return mask.flip(1).cumsum(dim=1).flip(1) > 0
