"""Original checkpoints of the released models: one file a family, read into Hugging Face models and written back."""

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.llava import load_original_llava, load_original_llava_next, rename_llava_keys
from contralign.models.convert.original_llava import save_original_llava

__all__ = [
    "ConversionError",
    "load_original_llava",
    "load_original_llava_next",
    "rename_llava_keys",
    "save_original_llava",
]
