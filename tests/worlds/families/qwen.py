"""Qwen2-VL to Qwen3.5 and GLM-4V: flat patches of a grid, positions in three axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import AFTER, BEFORE, VIDEO_TOKEN, WITHIN
from worlds.small_models import IMAGE_TOKEN, text_settings

MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
QWEN_IDS = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": VIDEO_TOKEN,
    "vision_start_token_id": BEFORE,
    "vision_end_token_id": AFTER,
}
QWEN3_VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 7,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}


def qwen2_vl() -> Any:
    """Qwen2-VL."""
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 7, "mlp_ratio": 2}
    config = hf.Qwen2VLConfig(
        text_config={**text_settings(), "rope_parameters": MROPE}, vision_config=vision, **QWEN_IDS
    )
    return hf.Qwen2VLForConditionalGeneration(config)


def qwen2_5_vl() -> Any:
    """Qwen2.5-VL."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "out_hidden_size": 32,
        "window_size": 14,
        "fullatt_block_indexes": [1],
    }
    config = hf.Qwen2_5_VLConfig(
        text_config={**text_settings(), "rope_parameters": MROPE}, vision_config=vision, **QWEN_IDS
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config)


def qwen3_vl() -> Any:
    """Qwen3-VL, features of two deeper layers."""
    config = hf.Qwen3VLConfig(
        text_config={**text_settings(head_dim=8, num_hidden_layers=3), "rope_parameters": MROPE},
        vision_config={**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]},
        **QWEN_IDS,
    )
    return hf.Qwen3VLForConditionalGeneration(config)


def qwen3_vl_moe() -> Any:
    """Qwen3-VL with experts."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = hf.Qwen3VLMoeConfig(
        text_config={**text_settings(head_dim=8, num_hidden_layers=3), **experts, "rope_parameters": MROPE},
        vision_config={**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]},
        **QWEN_IDS,
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config)


def qwen3_5() -> Any:
    """Qwen3.5: a layer of linear attention, a layer of attention."""
    linear = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
    }
    rope = {**MROPE, "partial_rotary_factor": 1.0}
    config = hf.Qwen3_5Config(
        text_config={**text_settings(head_dim=8), **linear, "rope_parameters": rope},
        vision_config=QWEN3_VISION,
        **QWEN_IDS,
    )
    return hf.Qwen3_5ForConditionalGeneration(config)


def glm4v() -> Any:
    """GLM-4.1V."""
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "image_size": 28,
        "out_hidden_size": 32,
    }
    config = hf.Glm4vConfig(
        text_config={**text_settings(), "rope_parameters": MROPE},
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        image_start_token_id=BEFORE,
        image_end_token_id=AFTER,
        video_start_token_id=94,
        video_end_token_id=95,
    )
    return hf.Glm4vForConditionalGeneration(config)


def patches(name: str, grid: tuple[int, int, int], channels: int = 3 * 2 * 7 * 7) -> Callable[[torch.Generator], Row]:
    """Flat patches of a picture or video, as Qwen's processors cut them."""
    frames, height, width = grid

    def tensors(generator: torch.Generator) -> Row:
        videos = "_videos" if name == "video" else ""
        return {
            f"pixel_values{videos}": torch.randn(frames * height * width, channels, generator=generator),
            f"{name}_grid_thw": torch.tensor([grid]),
        }

    return tensors


def modality_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """0 for text, 1 for pictures, 2 for videos."""
    return {"mm_token_type_ids": [{IMAGE_TOKEN: 1, VIDEO_TOKEN: 2}.get(token, 0) for token in ids]}


QWEN_KINDS = {
    "image": Kind(IMAGE_TOKEN, 4, patches("image", (1, 4, 4)), WITHIN),
    "video": Kind(VIDEO_TOKEN, 8, patches("video", (2, 4, 4)), WITHIN),
}
QWEN3_KINDS = {**QWEN_KINDS, "video": Kind(VIDEO_TOKEN, 4, patches("video", (2, 4, 4)), WITHIN, runs=2)}
"""Qwen3-VL sets every frame of a video by itself."""


FAMILIES = (
    Family("Qwen2-VL", qwen2_vl, QWEN_KINDS, modality_ids),
    Family("Qwen2.5-VL", qwen2_5_vl, QWEN_KINDS, modality_ids),
    Family("Qwen3-VL", qwen3_vl, QWEN3_KINDS, modality_ids),
    Family("Qwen3-VL-MoE", qwen3_vl_moe, QWEN3_KINDS, modality_ids, dtype=torch.float32),
    Family("Qwen3.5", qwen3_5, QWEN3_KINDS, modality_ids, by_row=False),
    Family("GLM-4V", glm4v, {"image": QWEN_KINDS["image"]}, modality_ids),
)
