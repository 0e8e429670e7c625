"""What `train` and `demo` do with a resolved recipe: train, evaluate, report, print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from contralign.cli.evaluations import bind_evaluations
from contralign.training.recipe import Recipe
from contralign.training.run import run_recipe


def execute(recipe: Recipe, resume: bool = False, overwrite: bool = False) -> None:
    """Run a recipe and print its results and where they lie."""
    directory = run_recipe(recipe, bind_evaluations(recipe), resume=resume, overwrite=overwrite)
    console = Console()
    results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    table = results_table(results["arms"])
    if table.row_count:
        console.print(table)
    console.print(f"Run directory: {directory.path}", highlight=False, markup=False)


def results_table(arms: Mapping[str, Mapping[str, Any]]) -> Table:
    """One column an arm, one row a number."""
    table = Table("", *arms)
    columns = [dict(_numbers(results)) for results in arms.values()]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(_shown(column.get(name)) for column in columns))
    return table


def _numbers(results: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from _numbers(value, place)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield place, value


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
