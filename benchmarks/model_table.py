"""The table of docs/models.md: every family's passes held against its own forward, with tiny random weights.

python benchmarks/model_table.py            # measure and print, about half a minute
python benchmarks/model_table.py --write    # … into docs/models.md

The models, their batches and the oracle are those of tests/models/adapters/test_families.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from worlds.families.family import Family, built  # noqa: E402
from worlds.families.registry import FAMILIES  # noqa: E402
from worlds.own_forward import Measured, measured  # noqa: E402
from worlds.small_models import IMAGE_TOKEN  # noqa: E402

from contralign.models.adapters.adapter import ALL_CONTRASTS, UnsupportedModel  # noqa: E402
from contralign.models.adapters.registry import adapter_for  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- made by benchmarks/model_table.py -->", "<!-- end -->"
HEAD = (
    "| family | class | `drop` | `mask` | refused besides | videos | several pictures "
    "| logits − own | Δ drop − own | Δ mask − own | Δ drop − mask | |"
)
OTHERS = ALL_CONTRASTS - {"drop", "mask"}
_SMALL = 1e-4
_ROOM = 0.2

NOTES = {
    "Qwen3-VL": "features of deeper layers go with their tokens (1)",
    "Qwen3-VL-MoE": "the same (1); float32, its kernels know no other",
    "Qwen3.5": "linear attention (2)",
    "LFM2-VL": "convolution (2)",
    "Ovis 2": "its indicator tokens count as picture",
    "Idefics2": "window of the decoder (3)",
    "Aya Vision": "window of the decoder (3)",
    "Command A Vision": "window of the decoder (3)",
    "Gemma 3": "pictures in both directions, windows by place (4)",
    "Gemma 4": "the same (4), and embeddings for every layer (1)",
    "PaliGemma": "prefix in both directions (4), `token_type_ids` needed",
    "PaliGemma 2": "the same (4)",
    "Mllama": "cross-attention (5)",
    "Llama 4": "(6)",
}


def lines() -> Iterator[str]:
    """The table, a line a family."""
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    for family in FAMILIES.values():
        yield line_of(family)


def line_of(family: Family) -> str:
    """One family, measured."""
    model = family.make() if family.name == "Llama 4" else built(family)
    name = type(model).__name__
    try:
        adapter = adapter_for(model)
    except UnsupportedModel:
        return _cells(family.name, f"`{name}`", "no", "no", "all", *["–"] * 6, NOTES[family.name])
    found = measured(family, model)
    right = {"drop": found.removed < _SMALL, "mask": found.masked is not None and found.masked < _SMALL}
    return _cells(
        family.name,
        f"`{name}`",
        *("yes" if name in adapter.contrasts and right[name] else "no" for name in ("drop", "mask")),
        ", ".join(f"`{name}`" for name in sorted(OTHERS - adapter.contrasts)) or "–",
        _videos(family),
        "yes",
        *_figures(found),
        NOTES.get(family.name, ""),
    )


def _videos(family: Family) -> str:
    if "video" not in family.kinds:
        return "not tried" if family.name == "GLM-4V" else "–"
    return "as pictures" if family.kinds["video"].token == IMAGE_TOKEN else "yes"


def _figures(found: Measured) -> list[str]:
    figures = (found.own, found.removed, found.masked, found.apart)
    return ["–" if figure is None else f"{figure:.1e}" if figure else "0" for figure in figures]


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def agree(one: str, other: str) -> bool:
    """Two tables alike: the words equal, figures both below 1e-4 or within 20 % of each other."""
    ours, theirs = ([line.split("|") for line in table.strip().splitlines()] for table in (one, other))
    return len(ours) == len(theirs) and all(
        len(line) == len(told) and all(map(_alike, line, told)) for line, told in zip(ours, theirs, strict=True)
    )


def _alike(one: str, other: str) -> bool:
    try:
        first, second = float(one), float(other)
    except ValueError:
        return one == other
    return max(first, second) < _SMALL or abs(first - second) <= _ROOM * max(first, second)


def table_on(page: str) -> str:
    """The table that a page shows."""
    return page.split(BEGIN)[1].split(END)[0].strip()


def with_table(page: str, table: str) -> str:
    """The page with another table."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Measure; print, or write into the page."""
    torch.set_num_threads(1)
    table = "\n".join(lines())
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(page, table), encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main()
