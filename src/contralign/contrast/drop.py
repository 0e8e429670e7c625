"""Contrast "drop": image tokens are taken out and the text keeps its positions (section A.4, last sentence).

For causal attention this equals hiding the image keys, and costs the text tokens alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from contralign.batch import IGNORE_INDEX, VLBatch


@dataclass(frozen=True)
class DropImage:
    """Take image tokens out of the sequence.

    What cannot change any Δ goes too: rows whose labels see no picture, padding, and tokens after the last label.
    """

    name: ClassVar[str] = "drop"
    reencodes: ClassVar[bool] = False

    def __call__(self, batch: VLBatch) -> VLBatch:
        """A view of the text tokens, packed to the left; it may have no rows at all."""
        labelled = batch.labels != IGNORE_INDEX
        rows = (labelled & _after_first(batch.image_mask)).any(dim=1)
        keep = (batch.attention_mask.bool() & ~batch.image_mask & _up_to_last(labelled))[rows]
        order, filled = _pack_left(keep)
        view = take_rows(batch, rows)
        embeds = view.inputs_embeds
        if embeds is not None:
            embeds = embeds.gather(1, order.unsqueeze(-1).expand(-1, -1, embeds.shape[2]))
        return replace(
            view,
            input_ids=view.input_ids.gather(1, order).masked_fill(~filled, 0),
            attention_mask=filled.to(view.attention_mask.dtype),
            labels=view.labels.gather(1, order).masked_fill(~filled, IGNORE_INDEX),
            image_mask=torch.zeros_like(filled),
            position_ids=None if view.position_ids is None else _gather_positions(view.position_ids, order),
            inputs_embeds=embeds,
            token_index=view.token_index.gather(1, order),
        )


def take_rows(batch: VLBatch, rows: Bool[Tensor, " batch"]) -> VLBatch:
    """The rows of a batch where the mask is True. Pictures stay with the batch they came from."""
    positions = batch.position_ids
    if positions is not None:
        positions = positions[rows] if positions.dim() == 2 else positions[:, rows]
    return replace(
        batch,
        input_ids=batch.input_ids[rows],
        attention_mask=batch.attention_mask[rows],
        labels=batch.labels[rows],
        image_mask=batch.image_mask[rows],
        position_ids=positions,
        inputs_embeds=None if batch.inputs_embeds is None else batch.inputs_embeds[rows],
        row_index=batch.row_index[rows],
        token_index=batch.token_index[rows],
        pictures=None,
        vision_inputs={},
    )


def _after_first(mask: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True from the first True of a row on."""
    return mask.cumsum(dim=1) > 0


def _up_to_last(mask: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """True up to the last True of a row."""
    return mask.flip(1).cumsum(dim=1).flip(1) > 0


def _pack_left(
    keep: Bool[Tensor, "rows seq"],
) -> tuple[Int[Tensor, "rows kept"], Bool[Tensor, "rows kept"]]:
    """Columns of the kept tokens in reading order, and which places of the packed rows they fill."""
    counts = keep.sum(dim=1)
    width = int(counts.max()) if counts.numel() else 0
    order = torch.argsort(keep.logical_not().to(torch.int8), dim=1, stable=True)[:, :width]
    return order, torch.arange(width, device=keep.device) < counts.unsqueeze(1)


def _gather_positions(
    position_ids: Int[Tensor, "*axes rows seq"], order: Int[Tensor, "rows kept"]
) -> Int[Tensor, "*axes rows kept"]:
    """Original positions of the kept tokens."""
    if position_ids.dim() == 2:
        return position_ids.gather(1, order)
    return position_ids.gather(2, order.expand(position_ids.shape[0], -1, -1))
