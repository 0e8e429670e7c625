"""Mllama (Llama 3.2 Vision): pictures are read by cross-attention layers, and one image token stands for each.

The second pass is given no picture to read: the model then skips its cross-attention layers, which is its own way with
plain text. The image token, which says that there is a picture, is taken out or hidden like others'.
"""

from collections.abc import Mapping
from typing import Any

from contralign.batch import VLBatch
from contralign.models.adapters.generic import GenericAdapter


class MllamaAdapter(GenericAdapter):
    """Cross-attention in the pass with the picture, none in the other.

    Contrasts that put something else in a picture's place work on features in line, of which there are none.
    """

    contrasts = frozenset({"drop", "mask"})
    cross_attention_names = frozenset(
        {"cross_attention_states", "cross_attention_mask", "full_text_row_masked_out_mask"}
    )

    def prepare(self, inputs: Mapping[str, Any], draw: int = 0) -> VLBatch:
        """As every adapter.

        Raises:
            ValueError: pictures that are not laid out row by row; the model would show rows each other's.
        """
        pixels, mask, ids = (inputs.get(name) for name in ("pixel_values", "cross_attention_mask", "input_ids"))
        if pixels is not None and ids is not None:
            shape = None if mask is None else tuple(mask.shape)
            if len(pixels) != len(ids) or shape is None or shape[:2] != tuple(ids.shape):
                raise ValueError(
                    f"pixel_values {tuple(pixels.shape)} and cross_attention_mask {shape} with input_ids "
                    f"{tuple(ids.shape)}: wanted (rows, pictures, …) and (rows, tokens, …), as Mllama's processor "
                    "gives for one list of pictures a row"
                )
        return super().prepare(inputs, draw)
