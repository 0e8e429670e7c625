"""The last look before a run writes anything: whatever can be refused without loading model or data is refused here.

`contralign.recipe.planning` has refused what can be told from the recipe alone. This needs the libraries: names and
settings of weightings, contrasts and built-in sets, the Trainer's arguments, devices, and the files that are named.
"""

from contralign.recipe.data_settings import DataSettings, is_builtin
from contralign.recipe.files import check_files
from contralign.recipe.model_settings import TINY
from contralign.recipe.plan import RunPlan
from contralign.recipe.schema import RecipeError
from contralign.run.arguments import training_arguments
from contralign.run.build import check_vocabulary, load_processor, model_folder
from contralign.run.records import RecordReader, check_set
from contralign.run.score_files import check_score_files
from contralign.run.start_model import check_parts, check_tiny
from contralign.training.cal_settings import CalSettings
from contralign.training.config import CalConfig


def check_run(plan: RunPlan) -> dict[str, CalConfig | None]:
    """Refuse a run that could not come to its end as the recipe says.

    Returns:
        CAL's settings by arm, with their weighting and contrast; None is plain training.

    Raises:
        RecipeError: with the setting's dotted place.
    """
    check_files(plan)
    arms = cal_configs(plan)
    check_score_files(plan, arms)
    model = plan.recipe.model
    if model.path == TINY:
        check_tiny(model)
    elif model.path is not None:
        model_folder(model.path)
        check_vocabulary(model.path, load_processor(model.path))
    else:
        check_parts(model)
    _check_sets(plan.recipe.data, plan.recipe.data.eval, "data")
    for stage in plan.stages.values():
        _check_sets(stage.data, stage.data.train, f"stages.{stage.name}.data")
        if stage.data.streaming:
            RecordReader().stream(stage.data, passes=1)
        training_arguments(plan, stage, plan.output_dir / "checkpoints")
    return arms


def cal_configs(plan: RunPlan) -> dict[str, CalConfig | None]:
    """CAL's settings by arm, with their weighting and contrast.

    Raises:
        RecipeError: a weighting or contrast that does not take its settings.
    """
    place = "arms.{}" if plan.recipe.arms else "cal"
    return {arm: settings and cal_config(settings, place.format(arm)) for arm, settings in plan.arms.items()}


def cal_config(settings: CalSettings, place: str = "cal") -> CalConfig:
    """Plain settings with the weighting and the contrast that they name.

    Args:
        settings: of a recipe.
        place: dotted place of them, for messages.

    Raises:
        RecipeError: a weighting or contrast that does not take its settings.
    """
    try:
        return CalConfig.of(settings)
    except ValueError as error:
        raise RecipeError(f"{place}: {error}") from error


def _check_sets(data: DataSettings, sources: tuple[str, ...], path: str) -> None:
    for source in filter(is_builtin, sources):
        check_set(source, data.source_settings(source), path)
