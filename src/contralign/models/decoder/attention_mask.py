"""Attention masks over pairs of tokens: what a model made itself, and what a view of its tokens is given of it.

Who may attend to whom is a fact of the batch with its pictures. A view that leaves tokens out picks its own rows and
columns of it: a prefix that reads in both directions keeps doing so, and a sliding window still counts the places of
the whole sequence.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.batch import SHARED, VLBatch

PAIR_MASKS = frozenset({"sdpa", "eager"})
"""Attention implementations of transformers that take a mask over pairs of tokens."""
EVERY_LAYER = ""
"""Kind of layer of a mask that all layers share."""


def decoder_mask(batch: VLBatch, attention: str) -> Any:
    """What the decoder is given as `attention_mask`.

    Args:
        batch: a collated batch or a view of one.
        attention: implementation of attention.

    Returns:
        The plain mask of keys where that says everything, else one over pairs of tokens, or one for each kind of layer.
    """
    if batch.pair_masks is None:
        return pair_mask(batch, attention) if batch.packed else batch.attention_mask
    masks = {kind: pair_mask(batch, attention, mask) for kind, mask in batch.pair_masks.items()}
    return masks.get(EVERY_LAYER, masks)


def pair_mask(
    batch: VLBatch, attention: str, mask: Bool[Tensor, "batch seq seq"] | None = None
) -> Bool[Tensor, "rows 1 width width"] | Float[Tensor, "rows 1 width width"]:
    """Which token may attend to which, of its own sample or shared by all beside it.

    Args:
        batch: a collated batch or a view of one.
        attention: implementation; "sdpa" takes truth values, "eager" adds the mask to the scores.
        mask: of the collated batch, (query, key); None is causal.
    """
    width = batch.input_ids.shape[1]
    keys, queries = batch.row_index.unsqueeze(1), batch.row_index.unsqueeze(2)
    allowed = (keys == queries) | (keys == SHARED)
    allowed &= batch.attention_mask.bool().unsqueeze(1)
    if mask is None:
        allowed &= torch.ones(width, width, dtype=torch.bool, device=allowed.device).tril()
    else:
        allowed &= _picked(mask, batch.row_index, batch.token_index)
    # A token that may attend to nothing attends to itself, so that its softmax has something to sum; nobody reads it.
    allowed |= torch.eye(width, dtype=torch.bool, device=allowed.device) & ~allowed.any(dim=2, keepdim=True)
    allowed = allowed.unsqueeze(1)
    if attention == "sdpa":
        return allowed
    dtype = torch.float32 if batch.inputs_embeds is None else batch.inputs_embeds.dtype
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)


def own_masks(mask: Any, attention_mask: Int[Tensor, "batch seq"]) -> dict[str, Bool[Tensor, "batch seq seq"]] | None:
    """The masks over pairs of tokens that a model handed its decoder, as truth values.

    Args:
        mask: what it handed: a tensor, one for each kind of layer, or None.
        attention_mask: of the batch.

    Returns:
        One for each kind of layer; None where it handed no more than a mask of keys.

    Raises:
        ValueError: a mask that differs between heads, or is of another kind.
    """
    kinds = mask if isinstance(mask, Mapping) else {EVERY_LAYER: mask}
    for value in kinds.values():
        known = value is None or (isinstance(value, Tensor) and value.dim() in (2, 4))
        if not known or (value is not None and value.dim() == 4 and value.shape[1] != 1):
            shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"an attention mask that is {shown}; wanted (batch, 1, tokens, tokens)")
    if not any(value is not None and value.dim() == 4 for value in kinds.values()):
        return None
    return {kind: _truth(value, attention_mask) for kind, value in kinds.items()}


def _truth(mask: Tensor | None, attention_mask: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq seq"]:
    if mask is None or mask.dim() == 2:  # what transformers leaves to the decoder is causal
        keys = attention_mask.bool().unsqueeze(1)
        return (keys & torch.ones(keys.shape[-1], keys.shape[-1], dtype=torch.bool, device=keys.device)).tril()
    allowed = mask if mask.dtype == torch.bool else mask == 0
    return allowed.squeeze(1).expand(len(attention_mask), -1, -1)


def _picked(
    mask: Bool[Tensor, "batch seq seq"], rows: Int[Tensor, "rows width"], columns: Int[Tensor, "rows width"]
) -> Bool[Tensor, "rows width width"]:
    """Its entries at the tokens of a view; what is shared attends as it does in any row beside it."""
    beside = rows.max(dim=1, keepdim=True).values
    source = torch.where(rows == SHARED, beside, rows).unsqueeze(2)
    return mask[source, columns.unsqueeze(2), columns.unsqueeze(1)]


def sliding_window(text_config: Any, layer_types: set[str]) -> int | None:
    """Length of the sliding window of attention, None where no layer has one."""
    window = getattr(text_config, "sliding_window", None)
    if not isinstance(window, int) or window <= 0:
        return None
    slides = "sliding_attention" in layer_types if layer_types else getattr(text_config, "use_sliding_window", True)
    return window if slides else None
