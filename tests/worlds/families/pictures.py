"""What several families share: the tower's size, token ids, and pictures as most towers are given them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from worlds.families.family import Kind, Row
from worlds.small_models import IMAGE_TOKEN

VIDEO_TOKEN, BEFORE, AFTER = 91, 92, 93
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
WITHIN = ((BEFORE,), (AFTER,))


def plain_picture(generator: torch.Generator) -> Row:
    """Pixels of 28 x 28, one picture."""
    return {"pixel_values": torch.randn(1, 3, 28, 28, generator=generator)}


def two_frames(generator: torch.Generator) -> Row:
    """A video that a family takes as two pictures."""
    return {"pixel_values": torch.randn(2, 3, 28, 28, generator=generator)}


IN_LINE = {"image": Kind(IMAGE_TOKEN, 4, plain_picture)}
FRAMES = {**IN_LINE, "video": Kind(IMAGE_TOKEN, 4, two_frames, runs=2)}


def nested_rows(rows: list[list[Row]], ids: Tensor) -> Row:
    """(rows, pictures, …), where rows with fewer pictures are filled up with empty ones."""
    first = next(picture for row in rows for picture in row)
    joined = {
        name: [torch.cat([picture[name] for picture in row]) if row else value[:0] for row in rows]
        for name, value in first.items()
    }
    return {name: pad_sequence(values, batch_first=True) for name, values in joined.items()}
