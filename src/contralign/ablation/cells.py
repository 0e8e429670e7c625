"""The cells of an ablation: one point of the grid, one arm, one seed; each with its resolved recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contralign.ablation.settings import ARM, Ablation, Point
from contralign.nearest import nearest
from contralign.recipe.checks import refuse_streams
from contralign.recipe.plan import RunPlan
from contralign.recipe.recipe import Recipe
from contralign.recipe.recipe_file import apply_override, plan_from, read_values, with_changes
from contralign.recipe.schema import RecipeError
from contralign.run.preflight import cal_configs
from contralign.training.cal_settings import CalSettings


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of the grid with its evaluations.

    Attributes:
        point: axis -> label.
        arm: its name in the recipe.
        seed: of the recipe.
        plan: of its recipe.
    """

    point: Point
    arm: str
    seed: int
    plan: RunPlan

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.plan.recipe

    @property
    def cal(self) -> CalSettings | None:
        """CAL's settings of the arm; None is plain training."""
        return self.plan.arms[self.arm]

    @property
    def row(self) -> Point:
        """The point with its arm as one more axis: what cells of different seeds have in common."""
        return {**self.point, ARM: self.arm}

    @property
    def name(self) -> str:
        """The cell in a few words: noise=0.1 arm=cal seed=0."""
        return " ".join(f"{axis}={label}" for axis, label in {**self.row, "seed": str(self.seed)}.items())


def expand(ablation: Ablation, folder: Path) -> list[Cell]:
    """All cells, seed by seed.

    Args:
        ablation: checked.
        folder: of the ablation file; its recipe lies there.

    Raises:
        RecipeError: the recipe of a cell cannot be followed, or a metric or reference names what no cell has.
    """
    path = folder / ablation.recipe
    if not path.is_file():
        raise RecipeError(f"recipe: {path} does not exist")
    values = _shared_values(ablation, path)
    cells = []
    for point in ablation.points():
        plan = _plan_at(ablation, values, point, path)
        _check_evaluations(ablation, plan.recipe)
        cells += [
            Cell(point=point, arm=arm, seed=seed, plan=plan.with_seed(seed))
            for arm in plan.arms
            for seed in ablation.seeds
        ]
    _check_arms(ablation, cells)
    order = {seed: place for place, seed in enumerate(ablation.seeds)}
    return sorted(cells, key=lambda cell: order[cell.seed])


def _shared_values(ablation: Ablation, path: Path) -> Mapping[str, Any]:
    """The recipe's values with what holds for all cells; grid values come on top of them."""
    values = read_values(path)
    if ablation.arms:
        values["arms"] = dict(ablation.arms)
    values = with_changes(values, ablation.changes)
    for override in ablation.overrides:
        values = apply_override(values, override)
    return values


def _plan_at(ablation: Ablation, values: Mapping[str, Any], point: Point, path: Path) -> RunPlan:
    for axis, label in point.items():
        values = with_changes(values, ablation.grid[axis].changes[label])
    try:
        plan = plan_from(values, path)
        refuse_streams(plan)
        cal_configs(plan)
        return plan
    except RecipeError as error:
        place = " ".join(f"{axis}={label}" for axis, label in point.items())
        raise RecipeError(f"{error} (grid: {place})" if place else str(error)) from error


def _check_evaluations(ablation: Ablation, recipe: Recipe) -> None:
    for metric in ablation.metrics:
        evaluation = metric.path.split(".")[0]
        if evaluation not in recipe.evaluate:
            raise RecipeError(
                f"metrics: {metric.path}: the recipe has no evaluation {evaluation!r}; "
                f"{nearest(evaluation, recipe.evaluate)}; add it with changes: {{evaluate: {{{evaluation}: {{}}}}}}"
            )


def _check_arms(ablation: Ablation, cells: list[Cell]) -> None:
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    for reference in ablation.references:
        if reference.get(ARM, arms[0]) not in arms:
            raise RecipeError(f"reference.{ARM}: no such arm; {nearest(reference[ARM], arms)}")
