"""Gemma 3 and 4, PaliGemma 1 and 2: pictures or prefix read in both directions."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import CLIP, IN_LINE, VIDEO_TOKEN, WITHIN
from worlds.families.qwen import modality_ids
from worlds.small_models import IMAGE_TOKEN, text_settings


def gemma3(**text: Any) -> Any:
    """Gemma 3: one layer of sliding attention, one of full attention."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512}
    config = hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(**text_settings(head_dim=8, **{**layers, **text})),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
    )
    return hf.Gemma3ForConditionalGeneration(config)


def paligemma() -> Any:
    """PaliGemma."""
    config = hf.PaliGemmaConfig(
        text_config=hf.GemmaConfig(**text_settings(head_dim=8)),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def paligemma2(**text: Any) -> Any:
    """PaliGemma 2: a Gemma 2 below, logits bent at 15."""
    settings = {"sliding_window": 512, "final_logit_softcapping": 15.0, "query_pre_attn_scalar": 8}
    config = hf.PaliGemmaConfig(
        text_config=hf.Gemma2Config(**text_settings(head_dim=8, **{**settings, **text})),
        vision_config=hf.SiglipVisionConfig(**CLIP, vision_use_head=False),
        image_token_index=IMAGE_TOKEN,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def image_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """1 at pictures, as Gemma 3's processor gives."""
    return {"token_type_ids": [int(token == IMAGE_TOKEN) for token in ids]}


def suffix_ids(ids: list[int], labels: list[int]) -> dict[str, list[int]]:
    """1 at the answer, as PaliGemma's processor gives."""
    return {"token_type_ids": [int(label != -100) for label in labels]}


def gemma4() -> Any:
    """Gemma 4: embeddings of every token for every layer, keys shared between layers."""
    text = {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 512,
        "num_hidden_layers": 4,
        "vocab_size_per_layer_input": 96,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 2,
        "final_logit_softcapping": 30.0,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "patch_size": 7,
        "pooling_kernel_size": 2,
        "position_embedding_size": 16,
    }
    config = hf.Gemma4Config(
        text_config=hf.Gemma4TextConfig(**text_settings(head_dim=8, use_bidirectional_attention="vision", **text)),
        vision_config=hf.Gemma4VisionConfig(**vision),
        audio_config=None,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        audio_token_id=94,
        tie_word_embeddings=False,
    )
    return hf.Gemma4ForConditionalGeneration(config)


def gemma4_picture(generator: torch.Generator) -> Row:
    """Patches, and where each was."""
    places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), dim=-1).view(1, 16, 2)
    return {"pixel_values": torch.rand(1, 16, 3 * 7 * 7, generator=generator), "image_position_ids": places}


def gemma4_video(generator: torch.Generator) -> Row:
    """Two frames."""
    frames = [gemma4_picture(generator) for _ in range(2)]
    return {
        "pixel_values_videos": torch.cat([frame["pixel_values"] for frame in frames]),
        "video_position_ids": torch.cat([frame["image_position_ids"] for frame in frames]),
        "num_frames_per_video": torch.tensor([2]),
    }


GEMMA4_KINDS = {
    "image": Kind(IMAGE_TOKEN, 4, gemma4_picture, WITHIN),
    "video": Kind(VIDEO_TOKEN, 4, gemma4_video, WITHIN, runs=2),
}


FAMILIES = (
    Family("Gemma 3", gemma3, IN_LINE, image_ids),
    Family("PaliGemma", paligemma, IN_LINE, suffix_ids, prefix=True, removed=("token_type_ids",)),
    Family("PaliGemma 2", paligemma2, IN_LINE, suffix_ids, prefix=True, removed=("token_type_ids",), head=8.0),
    Family("Gemma 4", gemma4, GEMMA4_KINDS, modality_ids),
)
