"""Packages behind a recipe: which names in it are not contralign's own, and what versions they come from."""

from collections.abc import Iterable

from contralign.plugins import package_adding
from contralign.recipe.data_settings import is_builtin, set_name
from contralign.recipe.plan import RunPlan
from contralign.training.cal_settings import CalSettings


def packages_of(group: str, names: Iterable[str]) -> list[str]:
    """A line such as "weightings gaze: gaze-package 1.2" for every name that a package adds.

    Args:
        group: the last word of the entry points' group.
        names: of the recipe.
    """
    found = {name: package_adding(f"contralign.{group}", name) for name in names}
    return [f"{group} {name}: {package}" for name, package in found.items() if package is not None]


def packages_of_cal(cal: CalSettings) -> list[str]:
    """The same of the weighting and the contrast that these settings name."""
    weightings = [cal.weighting] if isinstance(cal.weighting, str) else []
    return [*packages_of("weightings", weightings), *packages_of("contrasts", [cal.contrast_name])]


def packages_behind(plan: RunPlan) -> dict[str, str]:
    """What is behind a run, such as "weightings gaze" -> "gaze-package 1.2"; empty for contralign's own names."""
    data = [plan.recipe.data, *(stage.data for stage in plan.stages.values())]
    sources = [source for each in data for source in (*each.train, *each.eval)]
    found = packages_of("sets", [set_name(source) for source in sources if is_builtin(source)])
    found += packages_of("evaluations", plan.recipe.evaluate)
    for cal in plan.arms.values():
        found += [] if cal is None else packages_of_cal(cal)
    return dict(line.split(": ", 1) for line in found)
