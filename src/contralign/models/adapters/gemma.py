"""Gemma 3, Gemma 4 and PaliGemma: families that make the attention masks of their decoder themselves.

Gemma 3 lets the tokens of a picture attend to each other in both directions and looks through sliding windows in most
layers. PaliGemma reads pictures and prompt as a prefix in both directions, and only the answer causally. Both are facts
of the recorded masks, of which the second pass picks what its tokens need (`attention_mask.py`).
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from contralign.batch import IGNORE_INDEX, VLBatch
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.generic import GenericAdapter

_PER_LAYER = "per_layer_inputs"


class Gemma3Adapter(GenericAdapter):
    """Bidirectional pictures, sliding windows."""

    makes_own_masks = True


class Gemma4Adapter(Gemma3Adapter):
    """Gemma 3's, and for every layer an embedding of each token beside the one in line."""

    token_input_names = frozenset({_PER_LAYER})

    def record_token_inputs(self, arguments: Mapping[str, Any]) -> dict[str, Float[Tensor, "batch seq layers part"]]:
        """Embeddings for the layers; models that have none hand none."""
        return {_PER_LAYER: arguments[_PER_LAYER]} if _PER_LAYER in arguments else {}


class PaliGemmaAdapter(GenericAdapter):
    """Bidirectional prefix; positions that count from 1."""

    makes_own_masks = True

    def prepare(self, inputs: Mapping[str, Any], draw: int = 0) -> VLBatch:
        """As every adapter.

        Raises:
            ValueError: nothing says which tokens are prefix, so that every token would attend to all others; or prefix
                stands at a label or behind it, from where the label's own predecessors would read the answer.
            UnsupportedModel: its implementation of attention cannot tell prefix from answer.
        """
        if inputs.get("token_type_ids") is None:
            raise ValueError(
                "a PaliGemma batch without token_type_ids: wanted 0 at pictures and prompt and 1 at the answer, as its "
                "processor gives when it is told suffix=..."
            )
        batch = super().prepare(inputs, draw)
        answered = (batch.labels != IGNORE_INDEX).cumsum(dim=1) > 0
        prefix = (inputs["token_type_ids"] == 0) & batch.attention_mask.bool()
        if bool((prefix & answered).any()):
            raise ValueError(
                "token_type_ids are 0, which is prefix and read in both directions, at a label or behind one: wanted 1 "
                "from the first label of a row on, and so one question and one answer a row"
            )
        if batch.pair_masks is None:
            raise UnsupportedModel(
                f"attention {self._attention!r} cannot read a prefix in both directions and the answer in one: load "
                "the model with attn_implementation='sdpa' or 'eager'"
            )
        return batch
