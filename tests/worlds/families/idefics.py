"""Idefics2 and 3, SmolVLM: pictures of a row in one tensor."""

from __future__ import annotations

from typing import Any

import transformers as hf
from worlds.families.family import Family
from worlds.families.pictures import CLIP, FRAMES, IN_LINE, nested_rows
from worlds.small_models import IMAGE_TOKEN, text_settings


def idefics2() -> Any:
    """Idefics2: a perceiver of 4 latents."""
    perceiver = {
        "hidden_size": 32,
        "resampler_n_latents": 4,
        "resampler_depth": 1,
        "resampler_n_heads": 4,
        "resampler_head_dim": 8,
        "num_key_value_heads": 2,
    }
    config = hf.Idefics2Config(
        vision_config=CLIP,
        perceiver_config=perceiver,
        text_config=hf.MistralConfig(**text_settings(sliding_window=4096)),
        image_token_id=IMAGE_TOKEN,
    )
    return hf.Idefics2ForConditionalGeneration(config)


def idefics3() -> Any:
    """Idefics3."""
    config = hf.Idefics3Config(
        vision_config={**CLIP, "patch_size": 7},
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        pad_token_id=0,
    )
    return hf.Idefics3ForConditionalGeneration(config)


def smolvlm() -> Any:
    """SmolVLM and SmolVLM2."""
    config = hf.SmolVLMConfig(
        vision_config={**CLIP, "patch_size": 7},
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        pad_token_id=0,
    )
    return hf.SmolVLMForConditionalGeneration(config)


FAMILIES = (
    Family("Idefics2", idefics2, IN_LINE, collate=nested_rows),
    Family("Idefics3", idefics3, IN_LINE, collate=nested_rows),
    Family("SmolVLM", smolvlm, FRAMES, collate=nested_rows),
)
