"""Original checkpoint formats that are read and written, one line each; they have the names of their families."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.llava.config import LLAVA_TYPES, is_llava_next
from contralign.models.convert.llava.load import load_original_llava, load_original_llava_next
from contralign.models.convert.llava.save import save_original_llava
from contralign.models.convert.mini_gemini.config import GEMMA_TYPES, LLAMA_TYPES
from contralign.models.convert.mini_gemini.load import load_original_mini_gemini
from contralign.models.convert.mini_gemini.save import save_original_mini_gemini
from contralign.models.convert.processors import llava_next_processor, llava_processor, mini_gemini_processor
from contralign.models.convert.weight_files import WeightFormat


@dataclass(frozen=True, kw_only=True)
class OriginalFormat:
    """How checkpoints of one family go from the original layout to Hugging Face's and back.

    Attributes:
        recognises: whether an original config.json is of this family.
        load: (path, tower_root=, dtype=) -> model with the original's rows in its vocabulary.
        save: (model, folder, weight_format=) writes the original layout into an empty folder.
        processor: (model, tokenizer, tower_root) -> processor of a loaded model.
        model_type: of the Hugging Face config.
        image_row: the model looks the image token up, so it needs a row in the vocabulary.
        formats: of weights that `save` can write; the first is taken where none is asked for.
    """

    recognises: Callable[[Mapping[str, Any]], bool]
    load: Callable[..., PreTrainedModel]
    save: Callable[..., None]
    processor: Callable[..., Any]
    model_type: str
    image_row: bool = True
    formats: tuple[WeightFormat, ...] = ("safetensors", "bin")


ORIGINAL_FORMATS: dict[str, OriginalFormat] = {
    "llava": OriginalFormat(
        recognises=lambda original: original.get("model_type") in LLAVA_TYPES and not is_llava_next(original),
        load=load_original_llava,
        save=save_original_llava,
        processor=llava_processor,
        model_type="llava",
    ),
    "llava_next": OriginalFormat(
        recognises=lambda original: original.get("model_type") in LLAVA_TYPES and is_llava_next(original),
        load=load_original_llava_next,
        save=save_original_llava,
        processor=llava_next_processor,
        model_type="llava_next",
    ),
    "mini_gemini": OriginalFormat(
        recognises=lambda original: original.get("model_type") in LLAMA_TYPES + GEMMA_TYPES,
        load=load_original_mini_gemini,
        save=lambda model, folder, weight_format: save_original_mini_gemini(model, folder),
        processor=mini_gemini_processor,
        model_type="mini_gemini",
        image_row=False,
        formats=("safetensors",),
    ),
}


def original_format_of(original: Mapping[str, Any]) -> str:
    """Name of the family of an original config.json.

    Raises:
        ConversionError: none recognises it.
    """
    for name, family in ORIGINAL_FORMATS.items():
        if family.recognises(original):
            return name
    raise ConversionError(
        f"model_type={original.get('model_type')!r}, architectures={original.get('architectures')}: wanted an original "
        f"checkpoint of {', '.join(ORIGINAL_FORMATS)}"
    )


def converted_format_of(config: Mapping[str, Any]) -> str:
    """Name of the family of a Hugging Face config.json.

    Raises:
        ConversionError: none has its model type.
    """
    for name, family in ORIGINAL_FORMATS.items():
        if family.model_type == config.get("model_type"):
            return name
    raise ConversionError(
        f"model_type={config.get('model_type')!r}: wanted a Hugging Face model of {', '.join(ORIGINAL_FORMATS)}"
    )
