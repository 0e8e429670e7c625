"""Ablation files: YAML beside the recipe they vary, with changes from the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from contralign.ablation.settings import Ablation, label_of
from contralign.recipe.recipe import plain
from contralign.recipe.recipe_file import ABLATION_KEY, parse, parse_override, put
from contralign.recipe.schema import RecipeError, from_mapping

OWN_KEYS = ("name", "seeds", "grid", "reference", "metrics")
"""Keys of the command line that change the ablation; every other changes the recipe."""
NO_EFFECT = {"seed": "set seeds=[0, 1]", "output_dir": "give --output", "report": "an ablation writes its own tables"}


def load_ablation(path: str | Path, overrides: Sequence[str] = ()) -> Ablation:
    """Read and check an ablation file.

    Args:
        path: YAML file; its `recipe:` is relative to it.
        overrides: "key=value": of the ablation (name, seeds, grid, reference, metrics) or else of the recipe.

    Raises:
        RecipeError: anything that cannot be followed, with its place.
    """
    path = Path(path)
    values = parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: wanted settings (key: value), got {type(values).__name__}")
    if ABLATION_KEY not in values and ("stages" in values or "base" in values):
        raise RecipeError(f"{path}: a recipe, which is one run and no ablation: contralign train {path}")
    for_recipe = list(values.get("overrides") or [])
    for override in overrides:
        key, value = parse_override(override)
        first = key.split(".")[0]
        if first in NO_EFFECT:
            raise RecipeError(f"{override} has no effect: {NO_EFFECT[first]}")
        if first in OWN_KEYS:
            values = put(values, key, value)
        else:
            for_recipe.append(override)
    values |= {"name": values.get("name") or path.stem, "overrides": for_recipe}
    try:
        ablation = from_mapping(Ablation, values)
        _refuse_idle_overrides(ablation)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    return ablation


def dump_ablation(ablation: Ablation) -> str:
    """The ablation as YAML."""
    return yaml.safe_dump(plain(ablation), sort_keys=False, allow_unicode=True, width=120)


def _refuse_idle_overrides(ablation: Ablation) -> None:
    """An override of a place that an axis of the grid sets would be overwritten in every cell."""
    for override in ablation.overrides:
        key = parse_override(override)[0]
        for name, axis in ablation.grid.items():
            for label, changes in axis.changes.items():
                for place, value in changes.items():
                    if _is_inside(place, key) and not isinstance(value, Mapping):
                        raise RecipeError(
                            f"{override} has no effect: grid.{name} sets {place} to {label_of(value)} ({label})"
                        )


def _is_inside(place: str, key: str) -> bool:
    return f"{place}.".startswith(f"{key}.")
