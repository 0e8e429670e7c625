"""Laying the kept tokens of a batch into rows, so that as little as possible is computed that nobody reads.

Two things are wasted when every row gets a row of its own: padding, where rows differ in length, and the beginning that
all rows have in common, such as a system prompt. Several rows laid into one, after one copy of their common beginning,
waste neither, but longer rows pay more for attention; `plan` weighs the two.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from contralign.batch import IGNORE_INDEX, SHARED, VLBatch

Bins = list[list[int]]


def pack_rows(
    batch: VLBatch, keep: Bool[Tensor, "batch seq"], may_share: Bool[Tensor, "batch seq"], several_in_one: bool
) -> VLBatch:
    """A view of the kept tokens, in reading order and packed to the left; rows without any are left out.

    Args:
        batch: what the tokens are taken from.
        keep: the tokens that stay.
        may_share: True where rows may share their beginning: no label, no picture before.
        several_in_one: lay several rows into one where that is cheaper; the view is then marked as packed.
    """
    kept = keep.cpu()  # the plan is made off the device; this is the one wait for it
    lengths = {row: int(count) for row, count in enumerate(kept.sum(dim=1).tolist()) if count}
    bins, shared = [[row] for row in lengths], 0
    if several_in_one and len(lengths) > 1:
        shared = _common_beginning(batch, keep & may_share, list(lengths))
        lengths = {row: length - shared for row, length in lengths.items()}
        bins = plan(lengths, shared, hidden=1 if batch.inputs_embeds is None else batch.inputs_embeds.shape[2])
        if len(bins) == len(lengths):
            bins, shared = [[row] for row in lengths], 0
    source, filled = (places.to(keep.device) for places in _places(kept, bins, shared))
    return _gathered(batch, source, filled, bins, shared)


def plan(lengths: Mapping[int, int], shared: int, hidden: int) -> Bins:
    """Which rows go into which row of the view: the cheapest of the ways that were tried.

    A token costs 24·hidden² multiplications a layer outside attention, and 4·hidden for each token it is compared with
    (LLaMA's proportions). For every capacity that is a multiple of the longest row, rows are put where they first fit,
    longest first.

    Args:
        lengths: tokens by row, without the shared beginning.
        shared: tokens of the beginning, once in every row of the view.
        hidden: width of the model.
    """
    best: tuple[float, Bins] = (float("inf"), [])
    for multiple in range(1, len(lengths) + 1):
        bins = _first_fit(lengths, capacity=multiple * max(lengths.values()))
        width = shared + max(sum(lengths[row] for row in rows) for rows in bins)
        cost = len(bins) * width * (6.0 * hidden + width)
        if cost < best[0]:
            best = (cost, bins)
        if len(bins) == 1:
            break
    return best[1]


def _first_fit(lengths: Mapping[int, int], capacity: int) -> Bins:
    bins: Bins = []
    room: list[int] = []
    for row in sorted(lengths, key=lambda row: -lengths[row]):
        place = next((index for index, free in enumerate(room) if free >= lengths[row]), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(capacity)
        bins[place].append(row)
        room[place] -= lengths[row]
    return bins


def _common_beginning(batch: VLBatch, may_share: Bool[Tensor, "batch seq"], rows: list[int]) -> int:
    """Number of tokens that all rows begin with: the same words at the same positions.

    Rows must begin in the same column, as they do without left padding.
    """
    ids = batch.input_ids[rows]
    same = may_share[rows] & (ids == ids[:1])
    if batch.position_ids is not None:
        positions = batch.position_ids[..., rows, :]
        same &= (positions == positions[..., :1, :]).reshape(-1, *same.shape).all(dim=0)
    return int(same.all(dim=0).int().cumprod(dim=0).sum())


def _places(
    keep: Bool[Tensor, "batch seq"], bins: Bins, shared: int
) -> tuple[Int[Tensor, "rows width"], Bool[Tensor, "rows width"]]:
    """For every place of the view the flat index of its token, and whether it is filled."""
    columns = [line.nonzero().squeeze(1) + row * keep.shape[1] for row, line in enumerate(keep)]  # flat
    rows = [torch.cat([columns[line[0]][:shared], *(columns[row][shared:] for row in line)]) for line in bins]
    width = max((len(row) for row in rows), default=0)
    source = torch.zeros(len(rows), width, dtype=torch.long)
    filled = torch.zeros_like(source, dtype=torch.bool)
    for place, row in enumerate(rows):
        source[place, : len(row)] = row
        filled[place, : len(row)] = True
    return source, filled


def _gathered(
    batch: VLBatch, source: Int[Tensor, "rows width"], filled: Bool[Tensor, "rows width"], bins: Bins, shared: int
) -> VLBatch:
    def taken(values: Tensor) -> Tensor:
        return values.flatten(0, 1)[source]

    row_index = taken(batch.row_index)
    row_index[:, :shared] = SHARED
    positions = batch.position_ids
    return replace(
        batch,
        input_ids=taken(batch.input_ids).masked_fill(~filled, 0),
        attention_mask=filled.to(batch.attention_mask.dtype),
        labels=taken(batch.labels).masked_fill(~filled, IGNORE_INDEX),
        image_mask=torch.zeros_like(filled),
        position_ids=None if positions is None else positions.flatten(-2)[..., source],
        inputs_embeds=None if batch.inputs_embeds is None else taken(batch.inputs_embeds),
        row_index=row_index,
        token_index=taken(batch.token_index),
        pictures=None,
        vision_inputs={},
        packed=any(len(rows) > 1 for rows in bins),
        cross_attention_inputs={},
        token_inputs={name: taken(value) for name, value in batch.token_inputs.items()},
    )
