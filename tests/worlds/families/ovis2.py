"""Ovis 2."""

from __future__ import annotations

from typing import Any

import transformers as hf
from worlds.families.family import Family, Kind
from worlds.families.pictures import AFTER, BEFORE, WITHIN, plain_picture
from worlds.small_models import IMAGE_TOKEN, text_settings


def ovis2() -> Any:
    """Ovis 2: words of a visual vocabulary, and indicator tokens whose embeddings change where there are pictures."""
    config = hf.Ovis2Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
            "vocab_size": 40,
            "num_visual_indicator_tokens": 2,
            "hidden_stride": 1,
        },
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        visual_indicator_token_ids=[BEFORE, AFTER],
        vocab_size=96,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.Ovis2ForConditionalGeneration(config)


FAMILIES = (Family("Ovis 2", ovis2, {"image": Kind(IMAGE_TOKEN, 4, plain_picture, WITHIN, filled=True)}),)
