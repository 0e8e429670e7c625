"""Score files of a recipe: that they were made as its stages need them, told before anything is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contralign.data.scores.score_file import check_settings, read_settings
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.plan import RunPlan
from contralign.recipe.schema import RecipeError
from contralign.training.cal_settings import START
from contralign.training.config import CalConfig
from contralign.training.scores import settings_read


def check_score_files(plan: RunPlan, arms: Mapping[str, CalConfig | None]) -> None:
    """Refuse, before anything is trained, a score file that was made with other settings than a stage has.

    Args:
        plan: of the run.
        arms: CAL's settings by arm.

    Raises:
        RecipeError: no such file, or with every setting that differs.
    """
    for arm, cal in arms.items():
        if cal is None or cal.scores in (None, START):
            continue
        place = f"arms.{arm}.scores" if plan.recipe.arms else "cal.scores"
        for stage in plan.stages.values():
            if stage.settings.cal:
                try:
                    _check_stage(Path(cal.scores), cal, stage.data, plan.recipe.seed)
                except ValueError as error:
                    raise RecipeError(f"{place}: stages.{stage.name}: {error}") from error


def noise_settings(data: DataSettings, seed: int) -> dict[str, Any]:
    """The swaps of a recipe as a score file names them; the seed is None where nothing is swapped."""
    own_seed = seed if data.noise_seed is None else data.noise_seed
    return {"swap_noise": data.swap_noise, "noise_seed": own_seed if data.swap_noise else None}


def _check_stage(path: Path, cal: CalConfig, data: DataSettings, seed: int) -> None:
    scored = read_settings(path)
    collation = {"template": data.template, "max_length": data.max_length, "image_aspect": data.image_aspect}
    noise = {name: value for name, value in noise_settings(data, seed).items() if name in scored}
    check_settings(path, scored, {**collation, **settings_read(cal), **noise})
