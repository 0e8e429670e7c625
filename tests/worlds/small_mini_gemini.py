"""Tiny random Mini-Gemini of the true architecture, and batches for them. Built, never downloaded."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, ConvNextConfig, GemmaConfig, LlamaConfig
from worlds.small_models import VOCAB, spread, text_settings

from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiForConditionalGeneration

IMAGE_TOKEN = VOCAB
"""The first id behind the vocabulary: no row of the embedding is its own."""


def small_config(grid=1, text="llama", **settings):
    """Small pictures of 28 x 28 in 4 patches, large ones of 64 x 64 (HD: 128 x 128) in maps of 16 x 16 (32 x 32)."""
    texts = {
        "llama": lambda: LlamaConfig(**text_settings()),
        "gemma": lambda: GemmaConfig(**text_settings(num_key_value_heads=1, head_dim=16)),
    }
    return MiniGeminiConfig(
        text_config=texts[text](),
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=28,
            patch_size=14,
            hidden_act="quick_gelu",
        ),
        aux_config=ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 2, 1], image_size=64 * grid),
        image_grid=grid,
        **settings,
    )


def build_mini_gemini(grid=1, text="llama", dtype=torch.float32, attn="sdpa", **settings):
    """In evaluation mode, with weights large enough that the picture moves the logits by several units."""
    torch.manual_seed(0)
    config = small_config(grid, text, **settings)
    config._attn_implementation = attn
    model = spread(MiniGeminiForConditionalGeneration(config), head=2.0 if text == "gemma" else 4.0)
    return model.to(dtype).eval()


def pictures_of(model, count, seed=0):
    """Random tensors of `count` pictures, as the two towers take them."""
    generator = torch.Generator().manual_seed(seed)
    grid, large = model.config.image_grid, model.config.aux_config.image_size
    slots = () if grid == 1 else (grid**2 + 1,)
    return {
        "pixel_values": torch.randn(count, *slots, 3, 28, 28, generator=generator).to(model.dtype),
        "pixel_values_aux": torch.randn(count, 3, large, large, generator=generator).to(model.dtype),
    }


def picture_batch(model, images=(1, 0, 2, 1), padding="right", seed=0):
    """Rows with 0, 1 or 2 pictures, labels in two turns, padded to one length."""
    generator = torch.Generator().manual_seed(seed)

    def words(count):
        return torch.randint(3, VOCAB, (count,), generator=generator).tolist()

    rows = []
    for row, count in enumerate(images):
        ids, labels = [1, *words(2)], [-100] * 3
        for turn in range(2):
            places = [IMAGE_TOKEN] * (model.config.image_seq_length if turn < count else 0)
            question, answer = words(2), words(3 + (row + turn) % 3)
            ids += places + question + answer
            labels += [-100] * (len(places) + 2) + answer
        rows.append((ids, labels))
    width = max(len(ids) for ids, _ in rows)

    def padded(values, filling):
        left = width - len(values) if padding == "left" else 0
        return [filling] * left + values + [filling] * (width - len(values) - left)

    batch = {
        "input_ids": torch.tensor([padded(ids, 0) for ids, _ in rows]),
        "labels": torch.tensor([padded(labels, -100) for _, labels in rows]),
        "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
    }
    return batch | (pictures_of(model, sum(images), seed) if sum(images) else {})


def without_labels(batch):
    return {name: value for name, value in batch.items() if name != "labels"}
