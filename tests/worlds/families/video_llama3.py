"""VideoLLaMA 3: Qwen's patches, merged by the projector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import VIDEO_TOKEN
from worlds.families.qwen import patches
from worlds.small_models import IMAGE_TOKEN, text_settings


def video_llama3() -> Any:
    """VideoLLaMA 3."""
    config = hf.VideoLlama3Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 7,
        },
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
    )
    return hf.VideoLlama3ForConditionalGeneration(config)


def merged_patches(name: str, grid: tuple[int, int, int]) -> Callable[[torch.Generator], Row]:
    """Flat patches, and that 2 x 2 of them make a token."""
    tensors = patches(name, grid, 3 * 7 * 7)
    return lambda generator: tensors(generator) | {f"{name}_merge_sizes": torch.tensor([2])}


FAMILIES = (
    Family(
        "VideoLLaMA 3",
        video_llama3,
        {
            "image": Kind(IMAGE_TOKEN, 4, merged_patches("image", (1, 4, 4))),
            "video": Kind(VIDEO_TOKEN, 8, merged_patches("video", (2, 4, 4))),
        },
    ),
)
