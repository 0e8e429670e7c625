"""Which evaluations a recipe may name: training and evaluation meet here and nowhere else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from contralign.training.recipe import Recipe
from contralign.training.run import Evaluation
from contralign.training.schema import RecipeError, check_keywords, nearest

EVALUATIONS: dict[str, Callable[..., Mapping[str, Any]]] = {}
GIVEN = ("model", "processor", "samples", "collate", "folder")


def bind_evaluations(recipe: Recipe) -> dict[str, Evaluation]:
    """The evaluations that a recipe names, with their settings bound.

    Raises:
        RecipeError: an unknown evaluation, or a setting that it does not have.
    """
    bound: dict[str, Evaluation] = {}
    for name, settings in recipe.evaluate.items():
        if name not in EVALUATIONS:
            raise RecipeError(f"evaluate.{name}: unknown evaluation; {nearest(name, EVALUATIONS)}")
        check_keywords(EVALUATIONS[name], settings or {}, f"evaluate.{name}", GIVEN)
        bound[name] = functools.partial(EVALUATIONS[name], **(settings or {}))
    return bound
