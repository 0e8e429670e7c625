"""Mllama (Llama 3.2 Vision): pictures are read by cross-attention layers, and one image token stands for each.

The second pass is given no picture to read: the model then skips its cross-attention layers, which is its own way with
plain text. The image token, which says that there is a picture, is taken out or hidden like others'.
"""

from __future__ import annotations

from contralign.models.generic import GenericAdapter


class MllamaAdapter(GenericAdapter):
    """Cross-attention in the pass with the picture, none in the other.

    Contrasts that put something else in a picture's place work on features in line, of which there are none.
    """

    contrasts = frozenset({"drop", "mask"})
    out_of_line = frozenset({"cross_attention_states", "cross_attention_mask", "full_text_row_masked_out_mask"})
