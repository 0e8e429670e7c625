"""Rows for two ranks: what each rank's batch holds, step by step. Read by the scripts that test_ranks.py starts."""

from __future__ import annotations

import torch
from worlds.small_models import IMAGE_TOKEN, training_rows

ROLES = {
    "mixed": (("mixed", "mixed"), ("mixed", "mixed")),
    "pictured": (("unlabelled", "mixed"), ("mixed", "unlabelled"), ("mixed", "mixed")),
    # Every pair that differs in what a rank has to run, the harder ones first.
    "changing": (
        ("mixed", "text"),
        ("text", "mixed"),
        ("unlabelled", "mixed"),
        ("text", "text"),
        ("mixed", "unlabelled text"),
        ("unlabelled text", "mixed"),
        ("unlabelled", "unlabelled text"),
        ("mixed", "mixed"),
    ),
}


def rows_by_role(roles: str, dtype: torch.dtype = torch.float64, batch: int = 4) -> list[dict[str, torch.Tensor]]:
    """Rows in the order in which a sequential sampler hands them out: rank 0's batch, rank 1's, rank 0's next …"""
    played = [role for step in ROLES[roles] for role in step]
    rows = training_rows(batch * len(played), dtype=dtype)
    text = next(row for row in rows if not (row["input_ids"] == IMAGE_TOKEN).any())
    return [_played(row, text, played[number // batch], number) for number, row in enumerate(rows)]


def _played(row: dict[str, torch.Tensor], text: dict[str, torch.Tensor], role: str, number: int) -> dict:
    if role.endswith("text"):
        words = text["input_ids"] > 2
        ids = torch.where(words, 3 + (text["input_ids"] - 3 + number) % 77, text["input_ids"])
        row = text | {"input_ids": ids, "labels": torch.where(text["labels"] == -100, text["labels"], ids)}
    if role.startswith("unlabelled"):
        row = row | {"labels": torch.full_like(row["labels"], -100)}
    return row
