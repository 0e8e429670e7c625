"""The families of the paper, by name: which classes they are made of, and how pictures come to be tokens.

What a family is stands here once, for true parts, for small ones and for outlines without weights. LLaVA-1.5 and -NeXT:
training_spec, sections 2.4, 3 and 5. Mini-Gemini: section 4.
"""

from __future__ import annotations

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

from contralign.models.anyres import as_original, canvases
from contralign.models.chat_templates import CHAT_TEMPLATES
from contralign.models.family_names import FamilyName
from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from contralign.models.tiny import IMAGE_TOKEN
from contralign.models.vlm_parts import Parts

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Statistics that CLIP's pictures are normalised by; the ConvNeXt's are the same."""


MAP_CELLS = 8
"""Places of the ConvNeXt's map along a side of a patch: 336 / 14 patches and a picture of 768 pixels make 192 places."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a model of one family is made.

    Attributes:
        model: its class.
        config: (parts, id of the image token) -> configuration.
        processor: (parts, tokenizer) -> processor.
        settle: what is done to the two once both are there.
        looks_up_image_token: its forward looks the image token's id up, so the vocabulary needs a row for it.
    """

    model: type[PreTrainedModel]
    config: Callable[[Parts, int], PreTrainedConfig]
    processor: Callable[[Parts, PreTrainedTokenizerFast], ProcessorMixin]
    settle: Callable[[Any, Any], None] = lambda model, processor: None
    looks_up_image_token: bool = True


def _llava_config(parts: Parts, image_token_id: int) -> LlavaConfig:
    return LlavaConfig(**_llava_settings(parts, image_token_id))


def _llava_settings(parts: Parts, image_token_id: int) -> dict[str, Any]:
    return {
        "vision_config": parts.vision_tower,
        "text_config": parts.language_model,
        "image_token_index": image_token_id,
        "image_seq_length": patches_a_side(parts) ** 2,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default",
        "vision_feature_layer": -2,
        "tie_word_embeddings": bool(parts.language_model.tie_word_embeddings),
    }


def _llava_processor(parts: Parts, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    return LlavaProcessor(image_processor=LlavaImageProcessorPil(**_clip_pixels(parts)), **_shared(parts, tokenizer))


def _llava_next_config(parts: Parts, image_token_id: int) -> LlavaNextConfig:
    return LlavaNextConfig(**_llava_settings(parts, image_token_id), image_grid_pinpoints=_pinpoints(parts))


def _llava_next_processor(parts: Parts, tokenizer: PreTrainedTokenizerFast) -> LlavaNextProcessor:
    images = LlavaNextImageProcessorPil(**_clip_pixels(parts), image_grid_pinpoints=_pinpoints(parts))
    return LlavaNextProcessor(image_processor=images, **_shared(parts, tokenizer))


def _pinpoints(parts: Parts) -> list[list[int]]:
    """The released canvases as (width, height); `as_original` puts them in transformers' order."""
    tower: Any = parts.vision_tower
    return [list(canvas) for canvas in canvases(tower.image_size)]


def _mini_gemini_config(parts: Parts, image_token_id: int, image_grid: Literal[1, 2] = 1) -> MiniGeminiConfig:
    aux: Any = parts.aux_tower
    aux.image_size = MAP_CELLS * aux.patch_size * patches_a_side(parts) * image_grid
    return MiniGeminiConfig(
        vision_config=parts.vision_tower,
        aux_config=aux,
        text_config=parts.language_model,
        image_token_id=image_token_id,
        image_grid=image_grid,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
    )


def _mini_gemini_processor(
    parts: Parts, tokenizer: PreTrainedTokenizerFast, image_grid: Literal[1, 2] = 1
) -> MiniGeminiProcessor:
    processor = MiniGeminiProcessor.for_config(
        _mini_gemini_config(parts, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), image_grid),
        tokenizer,
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_DEVIATION),
    )
    processor.chat_template = CHAT_TEMPLATES[parts.language_model.model_type]
    return processor


def _shared(parts: Parts, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What the processors of LLaVA-1.5 and -NeXT have in common."""
    return {
        "tokenizer": tokenizer,
        "patch_size": parts.vision_tower.patch_size,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,  # the class token, which the select strategy "default" takes away again
        "chat_template": CHAT_TEMPLATES[parts.language_model.model_type],
    }


def _clip_pixels(parts: Parts) -> dict[str, Any]:
    """CLIP's own preparation: shorter edge to the tower's size, bicubic, then the middle square."""
    side = parts.vision_tower.image_size
    return {
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_DEVIATION),
    }


def patches_a_side(parts: Parts) -> int:
    """Patches that a side of the tower's picture has."""
    tower: Any = parts.vision_tower
    return tower.image_size // tower.patch_size


FAMILIES: dict[FamilyName, Family] = {
    "llava": Family(model=LlavaForConditionalGeneration, config=_llava_config, processor=_llava_processor),
    "llava_next": Family(
        model=LlavaNextForConditionalGeneration,
        config=_llava_next_config,
        processor=_llava_next_processor,
        settle=as_original,
    ),
    "mini_gemini": Family(
        model=MiniGeminiForConditionalGeneration,
        config=_mini_gemini_config,
        processor=_mini_gemini_processor,
        looks_up_image_token=False,
    ),
    "mini_gemini_hd": Family(
        model=MiniGeminiForConditionalGeneration,
        config=partial(_mini_gemini_config, image_grid=2),
        processor=partial(_mini_gemini_processor, image_grid=2),
        looks_up_image_token=False,
    ),
}
