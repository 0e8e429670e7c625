"""Recorded numbers against those of the same cell run again from nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import PlannedCell
from contralign.ablation.settings import Ablation, Metric
from contralign.ablation.summary.results import Measured, Results, value_at
from contralign.ablation.worker import BindEvaluations, Worker
from contralign.nearest import nearest
from contralign.recipe.schema import RecipeError

TOLERANCE = 1e-6
CHECKED = "check"
"""Folder of an ablation under which cells are run again."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One number, twice.

    Attributes:
        metric: which.
        recorded: as it was.
        again: of the new run.
    """

    metric: Metric
    recorded: float | None
    again: float | None

    @property
    def agrees(self) -> bool:
        """True where they differ by no more than 1e-6, or both could not be measured."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        return abs(self.recorded - self.again) <= TOLERANCE


def choose_cell(planned: Sequence[PlannedCell], results: Results, cell: str | None, seed: int) -> PlannedCell:
    """The cell to run again: by its key or its name, or drawn from those that are recorded.

    Args:
        planned: the cells as the ablation file has them now.
        results: the recorded numbers.
        cell: key, or "axis=label … arm=… seed=…"; None draws one.
        seed: of the draw.

    Raises:
        RecipeError: no such cell, or one that is not recorded.
    """
    recorded = [one for one in planned if recorded_of(one, results)]
    if not recorded:
        raise RecipeError("no cell of this ablation is recorded: run it first, or give its numbers with --results")
    if cell is None:
        return random.Random(seed).choice(recorded)
    wanted = set(cell.split(" ")) if "=" in cell else None
    for one in recorded:
        keys = {one.key, *(measured.key for measured in recorded_of(one, results))}
        if cell in keys or cell == one.cell.name or wanted == set(one.cell.name.split(" ")):
            return one
    names = [one.cell.name for one in recorded]
    raise RecipeError(f"--cell {cell!r}: no such cell among the recorded ones; {nearest(cell, names)}")


def recorded_of(planned: PlannedCell, results: Results) -> list[Measured]:
    """The recorded numbers of a cell: those of the same labels, arm and seed."""
    cell = planned.cell
    return [one for one in results.measured if one.row == cell.row and one.seed == cell.seed]


def run_again(
    ablation: Ablation, planned: PlannedCell, results: Results, folder: Path, bind: BindEvaluations
) -> list[Checked]:
    """Run one cell from nothing, in one thread, and compare.

    Args:
        ablation: its settings; its metrics are compared.
        planned: the cell.
        results: recorded numbers.
        folder: where it runs; what an earlier check left there must be removed by the caller.
        bind: a recipe's evaluations.

    Raises:
        RuntimeError: the cell failed, with its traceback.
    """
    torch.set_num_threads(1)
    directory = AblationDirectory(folder)
    directory.create(ablation)
    Worker(directory, [planned], bind).run()
    error = directory.error(planned)
    if error is not None:
        raise RuntimeError(error.read_text(encoding="utf-8"))
    again = directory.record(planned.key)["results"]
    recorded = {one.path: one.value for one in recorded_of(planned, results)}
    return [
        Checked(metric=metric, recorded=recorded[metric.path], again=value_at(again, metric.path))
        for metric in results.ablation.metrics
        if metric.path in recorded
    ]
