"""Tiny random models of real architectures, and batches for them. Built, never downloaded."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

IMAGE_TOKEN = 90
VOCAB = 96
PICTURE_TOKENS = 4


def text_settings(**changes):
    """A LLaMA-shaped text model of two layers."""
    return {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **changes,
    }


def build_llava(dtype=torch.float32, attn="sdpa", **text):
    """A LLaVA-1.5 with pictures of 28 x 28 pixels in 4 tokens."""
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=28,
            patch_size=14,
        ),
        text_config=LlamaConfig(**text_settings(**text)),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=PICTURE_TOKENS,
        vision_feature_layer=-2,
        attn_implementation=attn,
    )
    return spread(LlavaForConditionalGeneration(config)).to(dtype)


def spread(model, std=0.25, head=4.0):
    """Random weights large enough that the picture moves the logits by several units: weights must vary."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
            elif "bias" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        model.get_output_embeddings().weight.mul_(head)
    return model


def mixed_batch(images=(1, 0, 2, 1), padding="right", seed=0, dtype=torch.float32, text=14, picture_size=28):
    """Rows with 0, 1 or 2 pictures, labels in two turns, padded to one length."""
    generator = torch.Generator().manual_seed(seed)

    def words(count):
        return torch.randint(3, 80, (count,), generator=generator).tolist()

    rows = []
    for row, count in enumerate(images):
        ids, labels = [1, *words(2)], [-100] * 3
        for turn in range(2):
            if turn < count:
                ids += [IMAGE_TOKEN] * PICTURE_TOKENS
                labels += [-100] * PICTURE_TOKENS
            question, answer = words(2), words(3 + (row + turn) % 3)
            ids += question + answer
            labels += [-100] * 2 + answer
        ids, labels = [*ids, *words(row % 2)], labels + [-100] * (row % 2)
        rows.append((ids, labels))
    width = max(len(ids) for ids, _ in rows)
    batch = {"input_ids": [], "labels": [], "attention_mask": []}
    for ids, labels in rows:
        pad = width - len(ids)
        for name, value, fill in (
            ("input_ids", ids, 0),
            ("labels", labels, -100),
            ("attention_mask", [1] * len(ids), 0),
        ):
            batch[name].append([fill] * pad + value if padding == "left" else value + [fill] * pad)
    tensors = {name: torch.tensor(value) for name, value in batch.items()}
    if sum(images):
        tensors["pixel_values"] = torch.randn(sum(images), 3, picture_size, picture_size, generator=generator).to(dtype)
    return tensors


def training_rows(count=8, seed=0, dtype=torch.float64):
    """Single samples of one width, so that any split into micro-batches holds the same rows."""
    batch = mixed_batch(images=[(1, 0, 2, 1)[row % 4] for row in range(count)], seed=seed, dtype=dtype)
    rows, first = [], 0
    for row in range(count):
        pictures = int((batch["input_ids"][row] == IMAGE_TOKEN).sum()) // PICTURE_TOKENS
        rows.append(
            {name: batch[name][row] for name in ("input_ids", "labels", "attention_mask")}
            | {"pixel_values": batch["pixel_values"][first : first + pictures]}
        )
        first += pictures
    return rows


def collate(rows):
    """What a user's own collator gives; text-only batches have no pixel_values."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels", "attention_mask")}
    pictures = torch.cat([row["pixel_values"] for row in rows])
    return batch | ({"pixel_values": pictures} if len(pictures) else {})
