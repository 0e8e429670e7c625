"""Are the files that a recipe names here? Told before anything is imported that takes seconds."""

from pathlib import Path

from contralign.recipe.data_settings import DataSettings, is_builtin
from contralign.recipe.plan import RunPlan
from contralign.recipe.schema import RecipeError
from contralign.training.cal_settings import START


def check_files(plan: RunPlan) -> None:
    """Refuse data files, picture folders and score files that do not exist; streams look for their shards themselves.

    Raises:
        RecipeError: with the setting's dotted place.
    """
    _check_sources(plan.recipe.data, plan.recipe.data.eval, "data.eval")
    for stage in plan.stages.values():
        if not stage.data.streaming:
            _check_sources(stage.data, stage.data.train, f"stages.{stage.name}.data.train")
    for arm, cal in plan.arms.items():
        if cal is not None and cal.scores not in (None, START) and not Path(cal.scores).is_file():
            place = f"arms.{arm}.scores" if plan.recipe.arms else "cal.scores"
            raise RecipeError(f"{place}: score file {cal.scores!r} does not exist; contralign score writes one")


def _check_sources(data: DataSettings, sources: tuple[str, ...], place: str) -> None:
    files = [source for source in sources if not is_builtin(source)]
    for source in files:
        if not Path(source).is_file():
            raise RecipeError(f"{place}: data file {source!r} does not exist; wanted a .json or .jsonl file")
    for root in data.image_root if files else ():
        if not Path(root).is_dir():
            raise RecipeError(f"{place.rpartition('.')[0]}.image_root: {root!r} is not a folder")
