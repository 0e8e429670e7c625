"""Original checkpoints of the released models: one file a family, read into Hugging Face models and written back."""

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.conversion import Conversion, to_hugging_face, to_original
from contralign.models.convert.llava.load import load_original_llava, load_original_llava_next, rename_llava_keys
from contralign.models.convert.llava.save import save_original_llava
from contralign.models.convert.mini_gemini.load import load_original_mini_gemini
from contralign.models.convert.mini_gemini.save import save_original_mini_gemini
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer

__all__ = [
    "Conversion",
    "ConversionError",
    "load_original_llava",
    "load_original_llava_next",
    "load_original_mini_gemini",
    "read_tokenizer",
    "rename_llava_keys",
    "save_original_llava",
    "save_original_mini_gemini",
    "to_hugging_face",
    "to_original",
]
