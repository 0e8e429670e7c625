"""Processors of converted models: images resized and cropped as the original does, and its chat template."""

from pathlib import Path
from typing import Any

from transformers import (
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from contralign.models.chat_templates import GEMMA_TEMPLATE, VICUNA_TEMPLATE
from contralign.models.convert.checkpoint import ConversionError, read_json
from contralign.models.convert.clip_tower import clip_settings, tower_directory
from contralign.models.decoder.image_token import IMAGE_TOKEN
from contralign.models.mini_gemini import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from contralign.models.published_towers import CLIP_DEVIATION, CLIP_MEAN


def vicuna_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """The original's vicuna_v1 as a chat template that gives its ids, with this tokenizer, from one text.

    Raises:
        ConversionError: no space behind the picture gives them.
    """
    alone = tokenizer.encode("\nIt", add_special_tokens=False)
    for gap in ("", " "):
        if tokenizer.encode(f"{IMAGE_TOKEN}{gap}\nIt", add_special_tokens=False)[1:] == alone:
            return VICUNA_TEMPLATE.replace("GAP", gap)
    raise ConversionError("this tokenizer gives other ids behind a picture than for the same text alone")


def chat_template_for(model_type: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """The template that conversations of a language model are written in: vicuna_v1 for LLaMA, gemma for Gemma."""
    return GEMMA_TEMPLATE if model_type == "gemma" else vicuna_template(tokenizer)


def llava_processor(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, tower_root: str | Path | None
) -> LlavaProcessor:
    """The processor of a converted LLaVA-1.5: pictures padded to a square where its config says "pad".

    Args:
        model: says the size of a picture and how it is cut.
        tokenizer: knows `<image>`.
        tower_root: where the tower's directory lies; its preprocessor_config.json is followed where there is one.
    """
    pads = model.config.original_settings.get("image_aspect_ratio") == "pad"
    return LlavaProcessor(
        image_processor=LlavaImageProcessorPil(do_pad=pads, **_image_settings(model, tower_root)),
        **llava_processor_settings(model.config, tokenizer),
    )


def llava_next_processor(
    model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, tower_root: str | Path | None
) -> LlavaNextProcessor:
    """The processor of a converted LLaVA-NeXT, with the grids of the model's config (height, width)."""
    return LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            image_grid_pinpoints=list(model.config.image_grid_pinpoints or ()), **_image_settings(model, tower_root)
        ),
        **llava_processor_settings(model.config, tokenizer),
    )


def mini_gemini_processor(
    model: MiniGeminiForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, tower_root: str | Path | None
) -> MiniGeminiProcessor:
    """The processor of a converted Mini-Gemini; both towers take CLIP's statistics.

    Args:
        model: says the sizes of both pictures, and how one is cut.
        tokenizer: knows `<image>`.
        tower_root: not needed: the original takes only the statistics from there, and requires them to be CLIP's.
    """
    pads = (model.config.original_settings or {}).get("image_aspect_ratio") == "pad"
    processor = MiniGeminiProcessor.for_config(
        model.config, tokenizer, do_pad=pads, image_mean=CLIP_MEAN, image_std=CLIP_DEVIATION
    )
    processor.chat_template = chat_template_for(model.config.get_text_config().model_type, tokenizer)
    return processor


def _image_settings(model: Any, tower_root: str | Path | None) -> dict[str, Any]:
    file = tower_directory(model.config.original_settings, tower_root) / "preprocessor_config.json"
    said = read_json(file) if file.is_file() else {}
    return {name: said.get(name, usual) for name, usual in clip_settings(model.config.vision_config.image_size).items()}


def llava_processor_settings(config: Any, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What a `LlavaProcessor` or `LlavaNextProcessor` takes besides its image processor."""
    return {
        "tokenizer": tokenizer,
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": 1,  # the class token, which the strategy "default" takes away again
        "chat_template": chat_template_for(config.text_config.model_type, tokenizer),
        "image_token": IMAGE_TOKEN,
    }
