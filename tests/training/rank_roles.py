"""Rows for two ranks in batches of four: what each rank holds, step by step. Read by two_ranks.py and bare_ranks.py."""

from __future__ import annotations

import torch
from small_models import IMAGE_TOKEN, training_rows

RANK_BATCH = 4

ROLES = {
    "mixed": (("mixed", "mixed"), ("mixed", "mixed")),
    "text_rank": (("mixed", "text"), ("mixed", "text")),
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


def rows_by_role(roles: str, dtype: torch.dtype = torch.float64) -> list[dict[str, torch.Tensor]]:
    """Rows in the order in which a sequential sampler hands them out: rank 0's batch, rank 1's, and so on."""
    steps = ROLES[roles]
    rows = training_rows(2 * RANK_BATCH * len(steps), dtype=dtype)
    plain = next(row for row in rows if not has_picture(row))
    played = []
    for number, row in enumerate(rows):
        role = steps[number // (2 * RANK_BATCH)][number // RANK_BATCH % 2]
        # Other words for every text row, so that no two batches are alike.
        row = shifted(plain, number) if role.endswith("text") else row
        if role.startswith("unlabelled"):
            row = row | {"labels": torch.full_like(row["labels"], -100)}
        played.append(row)
    return played


def has_picture(row: dict[str, torch.Tensor]) -> bool:
    return bool((row["input_ids"] == IMAGE_TOKEN).any())


def shifted(row: dict[str, torch.Tensor], by: int) -> dict[str, torch.Tensor]:
    """The same row with other words."""
    words = row["input_ids"] > 2
    ids = torch.where(words, 3 + (row["input_ids"] - 3 + by) % 77, row["input_ids"])
    return row | {"input_ids": ids, "labels": torch.where(row["labels"] == -100, row["labels"], ids)}
