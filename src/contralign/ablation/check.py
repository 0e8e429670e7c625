"""Recorded numbers against those of the same cell run again from nothing.

On the machine that a result was recorded on, its numbers are compared to the last digit. On another one, or where the
machine is unknown, rounding makes the cell another draw: 40 cells that were run on a second processor moved as far as
from seed to seed (accuracy by 0.049, root mean square; √2 times the deviation over seeds is 0.050). There a number is
compared with the spread over seeds, see `largest_difference`.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import PlannedCell
from contralign.ablation.settings import Ablation, Metric
from contralign.ablation.summary.results import Measured, Results, value_at
from contralign.ablation.worker import BindEvaluations, Worker
from contralign.evaluation.metrics.paired import t_quantile
from contralign.nearest import nearest
from contralign.recipe.schema import RecipeError
from contralign.run.machine import Machine, differing_fields, same_machine

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
        allowed: largest difference that agrees; None where too few seeds are recorded to say.
    """

    metric: Metric
    recorded: float | None
    again: float | None
    allowed: float | None = TOLERANCE

    @property
    def agrees(self) -> bool:
        """True where they differ by no more than is allowed (1e-6 always is), or both could not be measured."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        return abs(self.recorded - self.again) <= max(self.allowed or 0, TOLERANCE)

    @property
    def can_be_judged(self) -> bool:
        """False where the numbers differ, and nothing says how far they may."""
        return self.agrees or self.allowed is not None or self.recorded is None or self.again is None


@dataclass(frozen=True, kw_only=True)
class CheckedCell:
    """A cell that was run again.

    Attributes:
        numbers: one for every recorded metric.
        recorded_on: machine record of the recorded result; empty where it is unknown.
        here: machine record of the new one.
    """

    numbers: tuple[Checked, ...]
    recorded_on: Machine
    here: Machine

    @property
    def to_the_last_digit(self) -> bool:
        """Whether numbers were asked for to the last digit, and not within the spread over seeds."""
        return same_machine(self.recorded_on, self.here)

    @property
    def comparison(self) -> str:
        """Which of the two comparisons was made, and why, in words."""
        if self.to_the_last_digit:
            return "compared to the last digit: processor, kernels, threads and versions are the recorded ones"
        why = "the machine of the recorded result is unknown"
        if self.recorded_on:
            pairs = differing_fields(self.recorded_on, self.here)
            fields = "; ".join(f"{field} {there!r}, here {here!r}" for field, (there, here) in pairs.items())
            why = f"it was recorded on another machine: {fields}"
        return f"compared with the spread over seeds (95 %): {why}"


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
) -> CheckedCell:
    """Run one cell from nothing, in one thread, and compare: to the last digit where the machine is the recorded one.

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
    record = directory.record(planned.key)
    there = recorded_of(planned, results)
    recorded_on, here = there[0].machine, record["machine"]
    same = same_machine(recorded_on, here)
    numbers = tuple(
        Checked(
            metric=metric,
            recorded=one.value,
            again=value_at(record["results"], metric.path),
            allowed=TOLERANCE if same else largest_difference(other_seeds(one, results)),
        )
        for metric in results.ablation.metrics
        for one in there
        if one.path == metric.path
    )
    return CheckedCell(numbers=numbers, recorded_on=recorded_on, here=here)


def other_seeds(measured: Measured, results: Results) -> list[float]:
    """The same metric of the same row in the other seeds that are recorded."""
    return [value for seed, value in results.by_seed(measured.row, measured.path).items() if seed != measured.seed]


def largest_difference(others: Sequence[float]) -> float | None:
    """How far a number may be from the recorded one where the machine is another: a 95 % prediction interval.

    The new number and the recorded one are taken for two draws from the normal distribution of the other seeds. Their
    difference then lies within ± t √2 s in 95 % of all cases, where s is the deviation of the other m seeds and t the
    0.975 quantile of Student's t with m - 1 degrees of freedom. s is without the recorded number, so that a wrong one
    does not widen its own bound. One correct number in twenty falls outside (3 of 240, in 2 of 40 cells, when the noise
    table was run on another processor). With 4 other seeds the bound is 4.5 s: it finds what is broken, not what is a
    little worse.

    Args:
        others: the recorded values of the other seeds.

    Returns:
        The largest difference that agrees, in units of the metric; None for fewer than 2 others, that is 3 seeds.
    """
    if len(others) < 2:
        return None
    return t_quantile(0.975, len(others) - 1) * math.sqrt(2) * statistics.stdev(others)
