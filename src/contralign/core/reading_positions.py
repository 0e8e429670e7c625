"""At which tokens the score of a label is read: in the batch, and in what the second pass sees of it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from contralign.batch import SHARED, VLBatch


def at_tokens(scored: Bool[Tensor, "batch predicted"]) -> Bool[Tensor, "batch seq"]:
    """Where labels are predicted, as places among the unshifted tokens: the last one predicts nothing."""
    return torch.cat([scored, torch.zeros_like(scored[:, :1])], dim=1)


def reading_positions(
    view: VLBatch, at_every_position: bool = False
) -> tuple[Int[Tensor, "batch predicted"], Bool[Tensor, "batch predicted"]]:
    """Where the second pass reads the score of every label: at the last token before it that may be attended to.

    The position just before a label that follows the picture directly is itself an image token, and its residual
    stream still holds the picture; so with the image hidden the score is read at the last text token before it. The
    released code reads at the image token all the same: `at_every_position` does as it does.

    Returns:
        Columns, and True where there is a score to read.
    """
    columns = torch.arange(view.input_ids.shape[1], device=view.input_ids.device).expand_as(view.input_ids)
    if at_every_position:
        return columns[:, :-1], torch.ones_like(view.valid)
    attended = torch.where(view.attention_mask.bool(), columns, torch.full_like(columns, -1))
    last = attended.cummax(dim=1).values[:, :-1]
    if view.packed:
        # The token before may belong to another row; then the label is the first of its own and follows what is shared.
        own = view.row_index.gather(1, last.clamp(min=0)) == view.row_index[:, 1:]
        shared = (view.row_index == SHARED).sum(dim=1, keepdim=True) - 1
        last = torch.where(own, last, shared)
    return last.clamp(min=0), view.valid & (last >= 0)


def unique_positions(
    read_at: Int[Tensor, "rows predicted"], readable: Bool[Tensor, "rows predicted"], width: int
) -> tuple[Bool[Tensor, "rows seq"], Int[Tensor, " tokens"]]:
    """The tokens that are read at, each once, and for every label which of them is its own."""
    at = torch.zeros((readable.shape[0], width), dtype=torch.bool, device=readable.device)
    rows = torch.arange(len(at), device=at.device).unsqueeze(1).expand_as(read_at)
    at = at.index_put((rows[readable], read_at[readable]), torch.ones_like(rows[readable], dtype=torch.bool))
    number = at.flatten().cumsum(dim=0).view_as(at) - 1
    return at, number.gather(1, read_at)[readable]
