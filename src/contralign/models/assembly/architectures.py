"""Models that are put together from parts: the classes and settings behind each name of the recipe key `model.family`.

They are the same for pretrained parts, small ones and models without weights. LLaVA-1.5 and -NeXT: training_spec,
sections 2.4, 3 and 5. Mini-Gemini: section 4. How a family is trained is its adapter's: see `adapters/registry.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from contralign.models.anyres.tiling import canvases, use_original_tiling
from contralign.models.assembly.family_names import FamilyName
from contralign.models.assembly.part_configs import PartConfigs
from contralign.models.convert.clip_tower import clip_settings
from contralign.models.convert.processors import chat_template_for, llava_processor_settings
from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from contralign.models.published_towers import CLIP_DEVIATION, CLIP_MEAN

MAP_CELLS = 8
"""Cells of the ConvNeXt's feature map along a side of a patch: 24 patches a side and 768 pixels make 192."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a model of one name is made.

    Attributes:
        model: its class.
        config: (parts, id of the image token) -> configuration.
        processor: (configuration, tokenizer) -> processor.
        finish: (model, processor) -> None, called last; changes them in place.
        looks_up_image_token: its forward looks the image token's id up, so the vocabulary needs a row for it.
    """

    model: type[PreTrainedModel]
    config: Callable[[PartConfigs, int], PreTrainedConfig]
    processor: Callable[[Any, PreTrainedTokenizerFast], ProcessorMixin]
    finish: Callable[[Any, Any], None] = lambda model, processor: None
    looks_up_image_token: bool = True


def _llava_config(parts: PartConfigs, image_token_id: int) -> LlavaConfig:
    return LlavaConfig(**_llava_settings(parts, image_token_id))


def _llava_next_config(parts: PartConfigs, image_token_id: int) -> LlavaNextConfig:
    tower: Any = parts.vision_tower
    pinpoints = [list(canvas) for canvas in canvases(tower.image_size)]
    return LlavaNextConfig(**_llava_settings(parts, image_token_id), image_grid_pinpoints=pinpoints)


def _llava_settings(parts: PartConfigs, image_token_id: int) -> dict[str, Any]:
    return {
        "vision_config": parts.vision_tower,
        "text_config": parts.language_model,
        "image_token_index": image_token_id,
        "image_seq_length": _patches_a_side(parts) ** 2,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default",
        "vision_feature_layer": -2,
        "tie_word_embeddings": bool(parts.language_model.tie_word_embeddings),
    }


def _mini_gemini_config(parts: PartConfigs, image_token_id: int, image_grid: Literal[1, 2] = 1) -> MiniGeminiConfig:
    aux: Any = parts.aux_tower
    aux.image_size = MAP_CELLS * aux.patch_size * _patches_a_side(parts) * image_grid
    return MiniGeminiConfig(
        vision_config=parts.vision_tower,
        aux_config=aux,
        text_config=parts.language_model,
        image_token_id=image_token_id,
        image_grid=image_grid,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
    )


def _patches_a_side(parts: PartConfigs) -> int:
    tower: Any = parts.vision_tower
    return tower.image_size // tower.patch_size


def _llava_processor(config: Any, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    images = LlavaImageProcessorPil(**clip_settings(config.vision_config.image_size))
    return LlavaProcessor(image_processor=images, **llava_processor_settings(config, tokenizer))


def _llava_next_processor(config: Any, tokenizer: PreTrainedTokenizerFast) -> LlavaNextProcessor:
    settings = clip_settings(config.vision_config.image_size)
    images = LlavaNextImageProcessorPil(**settings, image_grid_pinpoints=config.image_grid_pinpoints)
    return LlavaNextProcessor(image_processor=images, **llava_processor_settings(config, tokenizer))


def _mini_gemini_processor(config: Any, tokenizer: PreTrainedTokenizerFast) -> MiniGeminiProcessor:
    statistics = {"image_mean": CLIP_MEAN, "image_std": CLIP_DEVIATION}  # the ConvNeXt's are the same
    processor = MiniGeminiProcessor.for_config(config, tokenizer, **statistics)
    processor.chat_template = chat_template_for(config.text_config.model_type, tokenizer)
    return processor


ARCHITECTURES: dict[FamilyName, Architecture] = {
    "llava": Architecture(model=LlavaForConditionalGeneration, config=_llava_config, processor=_llava_processor),
    "llava_next": Architecture(
        model=LlavaNextForConditionalGeneration,
        config=_llava_next_config,
        processor=_llava_next_processor,
        finish=use_original_tiling,
    ),
    "mini_gemini": Architecture(
        model=MiniGeminiForConditionalGeneration,
        config=_mini_gemini_config,
        processor=_mini_gemini_processor,
        looks_up_image_token=False,
    ),
    "mini_gemini_hd": Architecture(
        model=MiniGeminiForConditionalGeneration,
        config=partial(_mini_gemini_config, image_grid=2),
        processor=_mini_gemini_processor,
        looks_up_image_token=False,
    ),
}
