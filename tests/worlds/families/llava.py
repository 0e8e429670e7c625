"""LLaVA-1.5, LLaVA-OneVision, LLaVA-NeXT, LLaVA-NeXT-Video and ViP-LLaVA."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import CLIP, IN_LINE, VIDEO_TOKEN
from worlds.small_models import IMAGE_TOKEN, text_settings


def llava() -> Any:
    """LLaVA-1.5."""
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=4,
    )
    return hf.LlavaForConditionalGeneration(config)


def llava_onevision() -> Any:
    """LLaVA-OneVision."""
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-1,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config)


def llava_next() -> Any:
    """LLaVA-NeXT."""
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_layer=-2,
    )
    return hf.LlavaNextForConditionalGeneration(config)


def llava_next_video() -> Any:
    """LLaVA-NeXT-Video: frames pooled to a quarter."""
    config = hf.LlavaNextVideoConfig(
        vision_config=hf.CLIPVisionConfig(**{**CLIP, "patch_size": 7}),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN,
        image_grid_pinpoints=[[28, 28]],
    )
    return hf.LlavaNextVideoForConditionalGeneration(config)


def vip_llava() -> Any:
    """ViP-LLaVA."""
    config = hf.VipLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**CLIP),
        text_config=hf.LlamaConfig(**text_settings()),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=4,
        vision_feature_layer=[-1, -2],
    )
    return hf.VipLlavaForConditionalGeneration(config)


def onevision_picture(generator: torch.Generator) -> Row:
    """A base view of 4 x 4 tokens and one tile of 4 x 4, every row of it with a newline."""
    return {"pixel_values": torch.randn(1, 2, 3, 28, 28, generator=generator), "image_sizes": torch.tensor([[28, 28]])}


def onevision_video(generator: torch.Generator) -> Row:
    """Two frames of 2 x 2 pooled tokens, and a newline."""
    return {"pixel_values_videos": torch.randn(1, 2, 3, 28, 28, generator=generator)}


FAMILIES = (
    Family("LLaVA-1.5", llava, IN_LINE),
    Family(
        "LLaVA-OneVision",
        llava_onevision,
        {
            "image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture),
            "video": Kind(VIDEO_TOKEN, 2 * 4 + 1, onevision_video),
        },
    ),
    Family("LLaVA-NeXT", llava_next, {"image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture)}),
    Family(
        "LLaVA-NeXT-Video",
        llava_next_video,
        {"image": Kind(IMAGE_TOKEN, 16 + 4 * 5, onevision_picture), "video": Kind(VIDEO_TOKEN, 2 * 4, onevision_video)},
    ),
    Family("ViP-LLaVA", vip_llava, IN_LINE),
)
