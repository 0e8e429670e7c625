"""LFM2-VL."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.small_models import IMAGE_TOKEN, text_settings


def lfm2_vl() -> Any:
    """LFM2-VL: a layer of convolution, a layer of attention."""
    config = hf.Lfm2VlConfig(
        vision_config=hf.Siglip2VisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=7,
            num_patches=16,
            vision_use_head=False,
        ),
        text_config=hf.Lfm2Config(
            **text_settings(layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
        ),
        image_token_id=IMAGE_TOKEN,
        projector_hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.Lfm2VlForConditionalGeneration(config)


def lfm2_picture(generator: torch.Generator) -> Row:
    """Sixteen patches."""
    return {
        "pixel_values": torch.randn(1, 16, 3 * 7 * 7, generator=generator),
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }


FAMILIES = (Family("LFM2-VL", lfm2_vl, {"image": Kind(IMAGE_TOKEN, 4, lfm2_picture)}),)
