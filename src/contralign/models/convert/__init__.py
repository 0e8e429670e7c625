"""Original checkpoints of the released models, read into Hugging Face models: one file a family."""

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.llava import load_original_llava, rename_llava_keys

__all__ = ["ConversionError", "load_original_llava", "rename_llava_keys"]
