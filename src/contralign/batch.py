"""The one batch that both passes, every contrast and every adapter speak about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

IGNORE_INDEX = -100
CACHED_DELTA = "cached_delta"
"""Key under which a collated batch brings a column of a score file, Δ or a loss, (batch, seq)."""
SHARED = -1
"""`row_index` of a token that every row packed beside it may read."""


@dataclass(frozen=True, kw_only=True)
class VLBatch:
    """A collated batch as the language model reads it; frozen, so a contrast returns a new one.

    Rows may be fewer and columns may be shorter than in the batch a view was made from, and one row of a view may hold
    several rows of that batch: `row_index` and `token_index` say where every kept token stood, and that is how Δ lands
    on the right label.

    Attributes:
        input_ids: token ids, image placeholders included.
        attention_mask: 1 where a token may be attended to.
        labels: `IGNORE_INDEX` where no loss is taken; never set at an image token.
        image_mask: True at image tokens.
        position_ids: one axis or several; None leaves the model's own 0, 1, 2 …
        inputs_embeds: what the language model reads, image features in place; None means that the
            adapter has yet to encode this batch.
        row_index: row of the collated batch that a token is from; `SHARED` where it stands for all rows beside it.
        token_index: column of the collated batch.
        pictures: the original pictures of every row, for contrasts that degrade them; None if the batch has none.
        vision_inputs: the tensors that feed the vision tower (pixel_values, image_sizes …).
        draw: number of this batch; seeds the draws of a random contrast.
        packed: True where a row holds tokens of several rows, which must not attend to each other.
        token_inputs: what the decoder reads of every token besides its embedding, by the name of its argument, such as
            features that are added in deeper layers.
        cross_attention_inputs: arguments of the decoder that belong to the pictures alone, such as the states that its
            cross-attention reads; a view without the pictures has none.
        pair_masks: kind of layer -> attention mask over (queries, keys) of the *collated* batch; None where attention
            is causal. All views of a batch share it: `row_index` and `token_index` say which of its rows and columns
            are theirs, and `attention_mask` hides keys.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    labels: Int[Tensor, "batch seq"]
    image_mask: Bool[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"] | Int[Tensor, "axes batch seq"] | None
    inputs_embeds: Float[Tensor, "batch seq hidden"] | None
    row_index: Int[Tensor, "batch seq"]
    token_index: Int[Tensor, "batch seq"]
    pictures: tuple[tuple[Any, ...], ...] | None = None
    vision_inputs: Mapping[str, Any] = field(default_factory=dict)
    draw: int = 0
    packed: bool = False
    token_inputs: Mapping[str, Shaped[Tensor, "batch seq *parts"]] = field(default_factory=dict)
    cross_attention_inputs: Mapping[str, Any] = field(default_factory=dict)
    pair_masks: Mapping[str, Bool[Tensor, "rows columns columns"]] | None = None

    @property
    def targets(self) -> Int[Tensor, "batch predicted"]:
        """The label that each position predicts."""
        return self.labels[:, 1:]

    @property
    def valid(self) -> Bool[Tensor, "batch predicted"]:
        """True where a position predicts a label token."""
        return self.targets != IGNORE_INDEX

    @property
    def has_image(self) -> Bool[Tensor, " batch"]:
        """True for rows with at least one image token."""
        return self.image_mask.any(dim=1)

    @property
    def noncausal(self) -> Bool[Tensor, "batch seq"]:
        """True at tokens that attend to a later one, or that an earlier one attends to.

        For a batch as it was collated: its columns are those of `pair_masks`.
        """
        ahead = torch.zeros_like(self.image_mask)
        for mask in (self.pair_masks or {}).values():
            forward = mask.triu(1)
            ahead |= forward.any(dim=1) | forward.any(dim=2)
        return ahead

    @property
    def features(self) -> Float[Tensor, "batch seq features"]:
        """All that stands at a token: its embedding, and behind it the floating-point `token_inputs`."""
        assert self.inputs_embeds is not None
        more = [value.flatten(2) for value in self.token_inputs.values() if value.is_floating_point()]
        return torch.cat([self.inputs_embeds, *more], dim=-1) if more else self.inputs_embeds

    def with_features(self, features: Float[Tensor, "batch seq features"]) -> VLBatch:
        """The batch with other `features`."""
        assert self.inputs_embeds is not None
        embeds, rest = features.tensor_split([self.inputs_embeds.shape[-1]], dim=-1)
        token_inputs = dict(self.token_inputs)
        for name, value in self.token_inputs.items():
            if value.is_floating_point():
                own, rest = rest.tensor_split([value[0, 0].numel()], dim=-1)
                token_inputs[name] = own.reshape(value.shape)
        return replace(self, inputs_embeds=embeds, token_inputs=token_inputs)


def column_indices(input_ids: Int[Tensor, "batch seq"]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Row and column index of a batch that nothing was taken from: what a fresh `VLBatch` carries."""
    batch, seq = input_ids.shape
    rows = torch.arange(batch, device=input_ids.device)
    columns = torch.arange(seq, device=input_ids.device)
    return rows.unsqueeze(1).expand(batch, seq), columns.expand(batch, seq)
