"""The oracle: every row by itself through the model's own public forward, with its pictures and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from small_families import Family, Row, family_batch
from small_models import IMAGE_TOKEN
from torch import Tensor

CROSS = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask")


def positions_handed(model: Any, inputs: Row) -> tuple[Tensor, Tensor]:
    """Logits of the model's own forward, and the position ids that its decoder was given or counts itself."""
    seen: list[Tensor | None] = []

    def note(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs.get("position_ids"))

    handle = model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    handle.remove()
    counted = torch.arange(inputs["input_ids"].shape[1]).unsqueeze(0)
    return logits, counted if seen[0] is None else seen[0]


def without_by_masking(model: Any, inputs: Row, positions: Tensor, image: Tensor, out_of_line: bool) -> Tensor:
    """Logits where the keys of image tokens are hidden and positions stay."""
    left_out = {"labels", *(CROSS if out_of_line else ())}
    hidden = inputs["attention_mask"] * ~image
    told = {name: value for name, value in inputs.items() if name not in left_out}
    return model(**{**told, "attention_mask": hidden, "position_ids": positions}).logits


def without_by_removing(model: Any, inputs: Row, positions: Tensor, image: Tensor, beside: Sequence[str]) -> Tensor:
    """Logits of the text alone at its own positions, laid out over the whole row: each stays until the next token's."""
    text = (~image)[0]
    kept = {name: inputs[name][:, text] for name in ("input_ids", "attention_mask", *beside)}
    logits = model(**kept, position_ids=positions[..., text]).logits
    return logits[:, (text.cumsum(0) - 1).clamp(min=0)]


def own_delta(
    model: Any, family: Family, rows: Sequence[Sequence[str]], how: str, placeholders: Sequence[int], **batch: Any
) -> list[tuple[Tensor, Tensor]]:
    """Δ and logits of the labels of every row, text-only rows having Δ = 0, from two calls of the model's forward."""
    found = []
    for row in range(len(rows)):
        inputs = family_batch(family, rows, only=row, **batch)
        image = torch.isin(inputs["input_ids"], torch.tensor(placeholders))
        with torch.no_grad():
            logits, positions = positions_handed(model, inputs)
            if how == "mask":
                blind = without_by_masking(model, inputs, positions, image, family.name == "Mllama")
                text = torch.where(image[0], -1, torch.arange(image.shape[1])).cummax(dim=0).values.clamp(min=0)
                blind = blind[:, text]
            else:
                blind = without_by_removing(model, inputs, positions, image, family.removed)
        labels = inputs["labels"][0, 1:]
        valid = labels != -100
        seen = logits[0, :-1][valid].gather(-1, labels[valid].unsqueeze(-1)).squeeze(-1)
        unseen = blind[0, :-1][valid].gather(-1, labels[valid].unsqueeze(-1)).squeeze(-1)
        pictured = bool((inputs["input_ids"] == IMAGE_TOKEN).any()) or bool(image.any())
        found.append((seen - unseen if pictured else torch.zeros_like(seen), seen))
    return found
