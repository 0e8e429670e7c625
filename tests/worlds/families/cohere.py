"""Aya Vision and Command A Vision: windows that the decoder makes itself."""

from __future__ import annotations

from typing import Any

import transformers as hf
from worlds.families.family import Family
from worlds.families.pictures import CLIP, IN_LINE
from worlds.small_models import IMAGE_TOKEN, text_settings

COHERE = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512, "logit_scale": 0.5}


def aya_vision() -> Any:
    """Aya Vision: windows in three of four layers, here in one of two."""
    config = hf.AyaVisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}, vision_use_head=False),
        text_config=hf.Cohere2Config(**text_settings(head_dim=8, **COHERE)),
        image_token_index=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return hf.AyaVisionForConditionalGeneration(config)


def cohere2_vision() -> Any:
    """Command A Vision."""
    config = hf.Cohere2VisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}, vision_use_head=False),
        text_config=hf.Cohere2Config(**text_settings(head_dim=8, **COHERE)),
        image_token_id=IMAGE_TOKEN,
        alignment_intermediate_size=64,
        tie_word_embeddings=False,
    )
    return hf.Cohere2VisionForConditionalGeneration(config)


FAMILIES = (Family("Aya Vision", aya_vision, IN_LINE), Family("Command A Vision", cohere2_vision, IN_LINE))
