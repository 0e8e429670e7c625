"""Contrast "mask": image tokens stay in the sequence and their keys are hidden (section A.4, the released code)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from contralign.batch import VLBatch


@dataclass(frozen=True)
class MaskImage:
    """Hide the keys of image tokens; nothing moves, so every model with an ordinary attention mask takes it."""

    name: ClassVar[str] = "mask"
    reencodes: ClassVar[bool] = False

    def __call__(self, batch: VLBatch) -> VLBatch:
        """The same batch with attention to image tokens switched off."""
        hidden = torch.where(batch.image_mask, torch.zeros_like(batch.attention_mask), batch.attention_mask)
        return replace(batch, attention_mask=hidden, cross_attention_inputs={})
