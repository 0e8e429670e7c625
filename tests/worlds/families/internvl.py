"""InternVL 2.5 and 3."""

from __future__ import annotations

from typing import Any

import transformers as hf
from worlds.families.family import Family
from worlds.families.pictures import CLIP, FRAMES
from worlds.small_models import IMAGE_TOKEN, text_settings


def internvl() -> Any:
    """InternVL 2.5 and 3."""
    config = hf.InternVLConfig(
        vision_config={**CLIP, "image_size": [28, 28], "patch_size": [7, 7], "use_mean_pooling": True},
        text_config=hf.Qwen2Config(**text_settings()),
        image_token_id=IMAGE_TOKEN,
        downsample_ratio=0.5,
    )
    return hf.InternVLForConditionalGeneration(config)


FAMILIES = (Family("InternVL", internvl, FRAMES),)
