"""What an ablation file may say: one frozen dataclass a section, every check beside the setting it is about."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from contralign.nearest import nearest
from contralign.recipe.schema import RecipeError

Better = Literal["higher", "lower"]
Point = dict[str, str]
"""Axis -> label of one of its values."""
ARM = "arm"
NUMBERS = ("seed", "key", "metric", "label", "unit", "better", "value")
TRAINING = ("last_stage", "trained_steps", "trained_seconds", "threads", "machine", "commit", "finished")
COMPARED = ("seeds", "mean", "mean_low", "mean_high", "reference", "pairs", "difference", "t_low", "t_high", "t_p")
RESAMPLED = ("bootstrap_low", "bootstrap_high", "sign_flip_p")
COLUMNS = (ARM, *NUMBERS, *TRAINING, *COMPARED, *RESAMPLED)
"""Columns of results.parquet and comparisons.parquet: names that no axis may have."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the grid.

    Attributes:
        key: dotted place in the recipe that the values are for; None where every value changes places of its own.
        values: a list of values of `key`, or label -> value; without `key` label -> changes of the recipe, dotted or
            nested.
    """

    key: str | None = None
    values: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, list | Mapping) or not self.values:
            raise RecipeError(f"values: wanted a list, or label: value, with one at least; got {self.values!r}")
        if self.key is None and not isinstance(self.values, Mapping):
            raise RecipeError(f"values: a list needs key:, the dotted place that {self.values} are for")
        labels = list(self.changes)
        if len(labels) < len(self.values):
            raise RecipeError(f"values: {labels} are not different from each other")

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """Label -> changes of the recipe by dotted key."""
        if self.key is not None:
            values = self.values if isinstance(self.values, Mapping) else {label_of(one): one for one in self.values}
            return {str(label): {self.key: value} for label, value in values.items()}
        for label, changes in self.values.items():
            if not isinstance(changes, Mapping):
                raise RecipeError(
                    f"values.{label}: wanted changes of the recipe, such as {{cal.alpha: 0}}, got {changes!r}; or give "
                    "the axis a key: that its values are for"
                )
        return {str(label): dict(changes) for label, changes in self.values.items()}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of every cell.

    Attributes:
        path: dotted place in the results of an arm: evaluation, then the names it reports under. The place holds a
            number, or one with its interval, of which the value is taken.
        label: what tables and plots call it; default the path.
        unit: "%" shows shares as percentages; anything else, such as nats, stands beside the number.
        better: which way is better.
    """

    path: str
    label: str = ""
    unit: str = ""
    better: Better

    def __post_init__(self) -> None:
        if not all(self.path.split(".")):
            raise RecipeError(f"path={self.path!r}: wanted names between dots, such as grounding.accuracy.visual.right")

    @property
    def title(self) -> str:
        """The label, or the path where there is none."""
        return self.label or self.path

    @property
    def quantity(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A grid of settings × arms × seeds over one recipe.

    Attributes:
        name: the folder under runs/ablate.
        recipe: the recipe that every cell runs, beside the ablation file; it may have a base of its own.
        changes: changes of the recipe for all cells, dotted or nested.
        overrides: "key=value" changes of the command line, on top of them.
        seeds: of the recipe, one cell each; equal seeds have the same start and the same order of the data.
        grid: axes; their product, times arms and seeds, are the cells.
        arms: replaces the recipe's `arms`; empty leaves them.
        reference: what every other row is compared with, in pairs of equal seed: an arm, or axis -> label (`arm` is an
            axis too): what it does not name, both rows share. Several make several comparisons.
        metrics: what is reported.
    """

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    grid: dict[str, Axis] = field(default_factory=dict)
    arms: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    reference: Any
    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is None:
            raise RecipeError(f"name: {self.name!r} becomes a folder; use letters, digits, '-', '_' and '.'")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds={list(self.seeds)}: wanted one or more, each once")
        for axis in self.grid:
            if axis in COLUMNS:
                raise RecipeError(f"grid.{axis}: results have a column of this name already; take another")
        if not self.metrics:
            raise RecipeError("metrics: empty; name at least one number to report")
        paths = [metric.path for metric in self.metrics]
        if len(set(paths)) < len(paths):
            raise RecipeError(f"metrics: a path stands twice in {paths}")
        for reference in self.references:
            for axis, label in reference.items():
                self._check_reference(axis, label)

    def _check_reference(self, axis: str, label: str) -> None:
        if axis != ARM and axis not in self.grid:
            raise RecipeError(f"reference.{axis}: no such axis; {nearest(axis, [ARM, *self.grid])}")
        labels = list(self.grid[axis].changes) if axis != ARM else list(self.arms)
        if labels and label not in labels:
            raise RecipeError(f"reference.{axis}: {label!r} is none of its values; {nearest(label, labels)}")

    @property
    def references(self) -> list[Point]:
        """Every reference as axis -> label."""
        listed = self.reference if isinstance(self.reference, list) else [self.reference]
        found = []
        for one in listed:
            if isinstance(one, Mapping) and one:
                found.append(
                    {str(axis): label if isinstance(label, str) else label_of(label) for axis, label in one.items()}
                )
            elif isinstance(one, str):
                found.append({ARM: one})
            else:
                raise RecipeError(f"reference: wanted the name of an arm, or axis: value, got {one!r}")
        return found

    def points(self) -> Iterator[Point]:
        """Every point of the grid, the last axis fastest."""
        for labels in itertools.product(*(axis.changes for axis in self.grid.values())):
            yield dict(zip(self.grid, labels, strict=True))


def label_of(value: Any) -> str:
    """A value as tables show it and references name it: 0.1, true, [1, 5]."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
