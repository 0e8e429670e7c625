"""Llama 4 and Llama 3.2 Vision (Mllama)."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import Tensor
from worlds.families.family import Family, Kind, Row
from worlds.families.pictures import IN_LINE, nested_rows
from worlds.small_models import IMAGE_TOKEN, text_settings


def llama4() -> Any:
    """Llama 4: experts, attention in chunks."""
    config = hf.Llama4Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 7,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        text_config={**text_settings(head_dim=8), "intermediate_size_mlp": 64, "num_local_experts": 2},
        image_token_index=IMAGE_TOKEN,
    )
    return hf.Llama4ForConditionalGeneration(config)


def mllama() -> Any:
    """Llama 3.2 Vision: cross-attention in the second of four layers."""
    parts = hf.models.mllama.configuration_mllama
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = hf.MllamaConfig(
        text_config=parts.MllamaTextConfig(
            **text_settings(num_hidden_layers=4), cross_attention_layers=[1], rope_parameters=rope
        ),
        vision_config=parts.MllamaVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_global_layers=1,
            attention_heads=4,
            image_size=28,
            patch_size=14,
            vision_output_dim=96,
            intermediate_layers_indices=[0, 1],
            max_num_tiles=2,
            supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
        ),
        image_token_index=IMAGE_TOKEN,
    )
    model = hf.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        layer = model.model.language_model.layers[1]
        layer.cross_attn_attn_gate.fill_(1.0)
        layer.cross_attn_mlp_gate.fill_(1.0)
    return model


def mllama_picture(generator: torch.Generator) -> Row:
    """Two tiles one on top of the other."""
    return {
        "pixel_values": torch.randn(1, 2, 3, 28, 28, generator=generator),
        "aspect_ratio_ids": torch.tensor([2]),
        "aspect_ratio_mask": torch.tensor([[1, 1]]),
    }


def mllama_rows(rows: list[list[Row]], ids: Tensor) -> Row:
    """Rows of pictures; a token is shown the pictures up to it, the last one or all that directly follow each other."""
    batch = nested_rows(rows, ids)
    most = batch["pixel_values"].shape[1]
    told = (ids == IMAGE_TOKEN).cumsum(dim=1)
    sees = torch.stack([(told == number + 1) for number in range(most)], dim=-1)
    batch["cross_attention_mask"] = sees.unsqueeze(-1).expand(*sees.shape, 2).long()
    return batch


FAMILIES = (
    Family("Llama 4", llama4, IN_LINE),
    Family(
        "Mllama",
        mllama,
        {"image": Kind(IMAGE_TOKEN, 1, mllama_picture)},
        collate=mllama_rows,
        by_row=False,
        across=("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask"),
    ),
)
