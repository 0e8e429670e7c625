"""Mistral Small 3.1."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import plain_picture
from worlds.small_models import IMAGE_TOKEN, text_settings


def mistral3() -> Any:
    """Mistral Small 3.1: a Pixtral tower."""
    config = hf.Mistral3Config(
        vision_config=hf.PixtralVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            head_dim=8,
            image_size=28,
            patch_size=7,
        ),
        text_config=hf.MistralConfig(**text_settings(head_dim=8, sliding_window=None)),
        image_token_index=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return hf.Mistral3ForConditionalGeneration(config)


def sized_picture(generator: torch.Generator) -> Row:
    """Pixels and their size."""
    return plain_picture(generator) | {"image_sizes": torch.tensor([[28, 28]])}


FAMILIES = (Family("Mistral Small 3", mistral3, {"image": Kind(IMAGE_TOKEN, 4, sized_picture)}),)
