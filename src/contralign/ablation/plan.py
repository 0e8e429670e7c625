"""What has to be done for an ablation: the chain of steps of every cell, equal steps under one key."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from contralign.ablation.cells import Cell
from contralign.ablation.keys import origin_key, result_key, step_key

BUILD = "build"
"""Stage name of the step that builds the tiny model."""


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A model to make: the tiny one, or what a stage makes of the one before.

    Attributes:
        key: equal steps have equal keys.
        stage: its name in the recipe, or "build".
        parent: key of the step before; None where training starts from a model that is there.
    """

    key: str
    stage: str
    parent: str | None


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell, what it takes, and the name of its result.

    Attributes:
        cell: point, arm, seed and recipe.
        steps: from the first to the last.
        key: of the result; cells that do not differ in anything have one result.
    """

    cell: Cell
    steps: tuple[PlannedStep, ...]
    key: str


def plan(cells: Sequence[Cell]) -> list[PlannedCell]:
    """The chain of every cell."""
    return [_chain(cell) for cell in cells]


def _chain(cell: Cell) -> PlannedCell:
    plan, key = cell.plan, origin_key(cell.plan)
    steps = [PlannedStep(key=key, stage=BUILD, parent=None)] if plan.recipe.model.is_made else []
    parent: str | None = key if steps else None
    for stage in plan.stages.values():
        key = step_key(key, plan.recipe, stage, cell.cal)
        steps.append(PlannedStep(key=key, stage=stage.name, parent=parent))
        parent = key
    return PlannedCell(cell=cell, steps=tuple(steps), key=result_key(key, plan.recipe))


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much a plan is.

    Attributes:
        cells: rows of the grid times seeds.
        results: different ones.
        stages: stage -> how often it is trained.
        unshared: how many steps it would be if nothing were shared.
    """

    cells: int
    results: int
    stages: dict[str, int]
    unshared: int

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {count}" for stage, count in self.stages.items())
        steps = sum(self.stages.values())
        return f"{self.cells} cells, {self.results} results, {steps} steps ({stages}) of {self.unshared} unshared"


def count_work(planned: Sequence[PlannedCell]) -> Work:
    """How many cells, results and steps."""
    steps = {step.key: step for one in planned for step in one.steps}
    return Work(
        cells=len(planned),
        results=len({one.key for one in planned}),
        stages=dict(Counter(step.stage for step in steps.values())),
        unshared=sum(len(one.steps) for one in planned),
    )
