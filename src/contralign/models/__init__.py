"""Models: how every family is read, built of its parts, and converted from and to original checkpoints."""

from typing import TYPE_CHECKING

from contralign.public import lazy

if TYPE_CHECKING:
    from contralign.models.adapters.adapter import Adapter, DecoderInputs, UnsupportedModel
    from contralign.models.adapters.generic import GenericAdapter
    from contralign.models.adapters.registry import adapter_for
    from contralign.models.anyres.tiling import use_original_tiling
    from contralign.models.assembly.assemble import assemble
    from contralign.models.convert import (
        Conversion,
        ConversionError,
        load_original_llava,
        load_original_llava_next,
        load_original_mini_gemini,
        save_original_llava,
        save_original_mini_gemini,
        to_hugging_face,
        to_original,
    )
    from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor

__all__ = [
    "Adapter",
    "Conversion",
    "ConversionError",
    "DecoderInputs",
    "GenericAdapter",
    "MiniGeminiConfig",
    "MiniGeminiForConditionalGeneration",
    "MiniGeminiProcessor",
    "UnsupportedModel",
    "adapter_for",
    "assemble",
    "load_original_llava",
    "load_original_llava_next",
    "load_original_mini_gemini",
    "save_original_llava",
    "save_original_mini_gemini",
    "to_hugging_face",
    "to_original",
    "use_original_tiling",
]

__getattr__, __dir__ = lazy(__name__)
