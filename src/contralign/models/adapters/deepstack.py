"""DeepStack families (Qwen3-VL): features of deeper vision layers join the hidden states behind the first layers.

They stand at image tokens like the embeddings do, so they are carried token by token: a view that takes image tokens
out takes them along, and one that exchanges pictures exchanges them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contralign.batch import VLBatch
from contralign.models.adapters.generic import GenericAdapter

_MASK, _LEVELS = "visual_pos_masks", "deepstack_visual_embeds"


class DeepstackAdapter(GenericAdapter):
    """Qwen3-VL and those that hand their decoder `visual_pos_masks` and `deepstack_visual_embeds` as it does."""

    token_input_names = frozenset({_MASK, _LEVELS})

    def record_token_inputs(self, arguments: Mapping[str, Any]) -> dict[str, Float[Tensor, "batch seq levels hidden"]]:
        """The features of every level at their tokens, 0 at text."""
        embeds: Tensor = arguments["inputs_embeds"]
        if _LEVELS not in arguments:
            levels = len(self.model.config.vision_config.deepstack_visual_indexes)
            return {_LEVELS: embeds.new_zeros(()).expand(*embeds.shape[:2], levels, embeds.shape[2])}
        features = torch.stack([level.to(embeds) for level in arguments[_LEVELS]], dim=1)
        empty = embeds.new_zeros(*embeds.shape[:2], *features.shape[1:])
        return {_LEVELS: empty.masked_scatter(arguments[_MASK][..., None, None], features)}

    def token_arguments(self, batch: VLBatch) -> dict[str, Any]:
        """The features as the decoder takes them: where they stand, and a list of levels."""
        features = batch.token_inputs[_LEVELS]
        at = (features != 0).flatten(2).any(dim=2)
        return {_MASK: at, _LEVELS: list(features[at].unbind(dim=1))}

    def hidden_at(self, batch: VLBatch, at: Bool[Tensor, "batch seq"]) -> Float[Tensor, "tokens hidden"]:
        """As every adapter, but nothing may join a last layer that is computed at some tokens alone."""
        if batch.token_inputs[_LEVELS].shape[2] >= len(self.decoder.layers):  # type: ignore[arg-type]
            return self.hidden(batch)[at]
        return super().hidden_at(batch, at)
