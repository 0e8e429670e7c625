"""The attention mask of a view whose rows hold tokens of several samples."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.batch import SHARED, VLBatch

PAIR_MASKS = frozenset({"sdpa", "eager"})
"""Attention implementations of transformers that take a mask over pairs of tokens."""


def pair_mask(
    batch: VLBatch, attention: str
) -> Bool[Tensor, "rows 1 width width"] | Float[Tensor, "rows 1 width width"]:
    """Which token may attend to which: to those before it, of its own sample or shared by all beside it.

    Args:
        batch: a packed view.
        attention: implementation; "sdpa" takes truth values, "eager" adds the mask to the scores.
    """
    width = batch.input_ids.shape[1]
    keys, queries = batch.row_index.unsqueeze(1), batch.row_index.unsqueeze(2)
    allowed = (keys == queries) | (keys == SHARED)
    allowed &= batch.attention_mask.bool().unsqueeze(1)
    allowed &= torch.ones(width, width, dtype=torch.bool, device=allowed.device).tril()
    # A place that is not filled attends to itself, so that its softmax has something to sum.
    allowed |= torch.eye(width, dtype=torch.bool, device=allowed.device)
    allowed = allowed.unsqueeze(1)
    if attention == "sdpa":
        return allowed
    dtype = torch.float32 if batch.inputs_embeds is None else batch.inputs_embeds.dtype
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)
