"""From a recipe to the plan of its run: where everything that can be refused without loading anything is refused."""

from pathlib import Path

from contralign.recipe.checks import check_plan, check_recipe
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.recipe import Recipe, plain
from contralign.recipe.schema import RecipeError, from_mapping, merge
from contralign.training.cal_settings import CalSettings


def plan_of(recipe: Recipe) -> RunPlan:
    """The plan of a recipe.

    Raises:
        RecipeError: its sections contradict each other, or a setting has no effect; see `checks`.
    """
    check_recipe(recipe)
    stages = {
        name: StagePlan(name=name, settings=stage, data=_stage_data(recipe, name))
        for name, stage in recipe.stages.items()
    }
    arms = _arms(recipe)
    plan = RunPlan(
        recipe=recipe,
        stages=stages,
        arms=arms,
        fork=0 if len(arms) == 1 else [stage.cal for stage in recipe.stages.values()].index(True),
        output_dir=Path(recipe.output_dir or Path("runs") / recipe.name),
        tokenizer_stages=recipe.model.tokenizer_stages or tuple(recipe.stages),
    )
    check_plan(plan)
    return plan


def _stage_data(recipe: Recipe, stage: str) -> DataSettings:
    changes, path = recipe.stages[stage].data, f"stages.{stage}.data"
    if "eval" in changes:
        raise RecipeError(f"{path}.eval has no effect: evaluations read data.eval")
    return from_mapping(DataSettings, merge(plain(recipe.data), changes), path) if changes else recipe.data


def _arms(recipe: Recipe) -> dict[str, CalSettings | None]:
    if not recipe.arms:
        return {"mle" if recipe.cal is None else "cal": recipe.cal}
    base = plain(recipe.cal)
    return {
        arm: None if changes is None else from_mapping(CalSettings, {**base, **changes}, f"arms.{arm}")
        for arm, changes in recipe.arms.items()
    }
