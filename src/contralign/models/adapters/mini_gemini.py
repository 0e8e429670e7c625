"""Mini-Gemini: our own `MiniGeminiForConditionalGeneration`, which the two passes treat as they treat a LLaVA."""

import torch
from torch import Tensor

from contralign.models import mini_gemini as _registers_with_the_auto_classes  # noqa: F401
from contralign.models.adapters.llava import LlavaAdapter


class MiniGeminiAdapter(LlavaAdapter):
    """Text embeddings with mined and projected image features in the places of the image tokens.

    The features come scaled from the model where its language model is a Gemma, as its embeddings do: all that enters
    the decoder has the same scale, and contrasts may put one in the place of the other.
    """

    def _blank_features(self, like: Tensor) -> Tensor:
        """Features of an empty picture: on a rank with text alone, towers, mining and projector still take part."""
        config = self.model.config
        side, large = config.vision_config.image_size, config.aux_config.image_size
        slots = () if config.image_grid == 1 else (config.image_grid**2 + 1,)
        pictures = {"pixel_values": (1, *slots, 3, side, side), "pixel_values_aux": (1, 3, large, large)}
        return torch.cat(self._image_features({name: like.new_zeros(shape) for name, shape in pictures.items()}))
