"""What the sections of a recipe must agree on; a setting that would have no effect is an error.

What one section can tell by itself is checked in its own module.
"""

import re

from contralign.nearest import nearest
from contralign.recipe.model_settings import TINY
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.recipe import Recipe
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import ALONE, Stage
from contralign.recipe.trainer_arguments import check_trainer
from contralign.training.cal_settings import START

RESERVED_NAMES = ("start", "stages", "checkpoints", "evaluations", "shared")
IDLE_OVER_STREAMS = ("dataloader_drop_last", "dataloader_persistent_workers")
"""Arguments of the Trainer about the end of a pass, which a stream does not have."""


def check_recipe(recipe: Recipe) -> None:
    """Refuse sections that contradict each other.

    Raises:
        RecipeError: with the setting's dotted place.
    """
    _check_name("name", recipe.name)
    if not recipe.stages:
        raise RecipeError("stages: empty; a recipe needs at least one")
    for name, stage in recipe.stages.items():
        _check_stage(recipe, name, stage)
    for name in recipe.model.tokenizer_stages:
        if name not in recipe.stages:
            raise RecipeError(f"model.tokenizer_stages: no such stage; {nearest(name, recipe.stages)}")
    check_trainer(recipe.trainer)
    _check_evaluations(recipe)
    _check_cal(recipe)
    _check_arms(recipe)
    _check_adapters(recipe)


def check_plan(plan: RunPlan) -> None:
    """Refuse what cannot go with a stream, and settings of the records' order that have no effect.

    Raises:
        RecipeError: with the setting's dotted place.
    """
    for stage in plan.stages.values():
        if stage.settings.kind in ALONE and stage.settings.data.get("sampler", "random") != "random":
            raise RecipeError(
                f"stages.{stage.name}.data.sampler has no effect with kind={stage.settings.kind!r}: leave it out"
            )
        if stage.data.streaming:
            _check_stream(plan, stage)
    streams = [stage for stage in plan.stages.values() if stage.data.streaming]
    idle = [name for name in IDLE_OVER_STREAMS if plan.recipe.trainer.get(name)]
    if idle and len(streams) == len(plan.stages):
        raise RecipeError(f"trainer.{idle[0]} has no effect: a stream has no end at which it would count")
    counted = [stage for stage in streams if stage.data.count is not None]
    if counted and all(stage.settings.steps is not None for stage in streams):
        raise RecipeError(f"data.count={counted[0].data.count} has no effect: every streaming stage has steps")


def _check_stage(recipe: Recipe, name: str, stage: Stage) -> None:
    _check_name(f"stages.{name}", name)
    if stage.kind in ALONE and recipe.model.path != TINY:
        raise RecipeError(
            f"stages.{name}.kind: {stage.kind!r} is what the tiny LLaVA learns first; "
            f"{recipe.model.origin} has learnt it already: leave the stage out"
        )
    if recipe.model.cache_features and "vision_tower" in stage.train:
        raise RecipeError(
            f"stages.{name}.train: vision_tower cannot learn with model.cache_features, since its features "
            "would change: leave one of them out"
        )


def _check_adapters(recipe: Recipe) -> None:
    lora, quantization = recipe.model.lora, recipe.model.quantization
    if lora is not None and not any(part in stage.train for part in lora.parts for stage in recipe.stages.values()):
        raise RecipeError(f"model.lora has no effect: no stage has {' or '.join(lora.parts)} in train")
    if quantization != "none" and (lora is None or "language_model" not in lora.parts):
        raise RecipeError(
            f"model.quantization: {quantization} weights cannot learn; add model.lora, language_model in its parts"
        )
    if quantization != "none" and any(stage.kind in ALONE for stage in recipe.stages.values()):
        raise RecipeError("model.quantization: the tiny LLaVA learns its parts in full; set path to a trained one")
    if recipe.model.dtype == "bfloat16" and not recipe.trainer.get("bf16"):
        raise RecipeError(
            "model.dtype: bfloat16 needs trainer.bf16: true: what learns is kept in float32, since bfloat16 rounds "
            "AdamW's small steps away, and only under bf16 do layers of two dtypes meet"
        )


def _check_evaluations(recipe: Recipe) -> None:
    if recipe.evaluate and not recipe.data.eval:
        raise RecipeError("evaluate: needs records that were held out; set data.eval")
    evaluates_while_training = recipe.trainer.get("eval_strategy", "no") != "no"
    if evaluates_while_training and not recipe.data.eval:
        raise RecipeError("trainer.eval_strategy: needs records that were held out; set data.eval")
    if recipe.data.eval and not recipe.evaluate and not evaluates_while_training:
        raise RecipeError(f"data.eval={list(recipe.data.eval)} has no effect: evaluate is empty")


def _check_cal(recipe: Recipe) -> None:
    with_cal = [name for name, stage in recipe.stages.items() if stage.cal]
    if with_cal and recipe.cal is None:
        fixes = " ".join(f"stages.{name}.cal=false" for name in with_cal)
        raise RecipeError(f"stages.{with_cal[0]}.cal: true needs CAL's settings: add `cal: {{}}`, or set {fixes}")
    if recipe.cal is not None and not with_cal:
        raise RecipeError("cal has no effect: no stage has cal: true")


def _check_arms(recipe: Recipe) -> None:
    if not recipe.arms:
        return
    if recipe.cal is None:
        raise RecipeError("arms: they differ in CAL alone, and this recipe has none; add `cal: {}`, or set arms=null")
    if all(changes is None for changes in recipe.arms.values()):
        raise RecipeError("cal has no effect: every arm is null, which is plain training")
    for arm in recipe.arms:
        _check_name(f"arms.{arm}", arm)
        if arm in RESERVED_NAMES:
            raise RecipeError(f"arms.{arm}: the run directory keeps this name for itself; take another")


def _check_stream(plan: RunPlan, stage: StagePlan) -> None:
    place, settings, data = f"stages.{stage.name}", stage.settings, stage.data
    if settings.kind in ALONE:
        raise RecipeError(
            f"{place}.kind: {settings.kind!r} reads all records at once: set {place}.data.streaming=false"
        )
    if settings.epochs is not None and data.count is None:
        raise RecipeError(
            f"{place}.epochs={settings.epochs}: a stream has no length to count epochs by; give steps, or data.count, "
            "the number of its records"
        )
    if plan.recipe.model.cache_features:
        raise RecipeError("model.cache_features: not with data.streaming, whose pictures are too many to keep")
    for arm, cal in plan.arms.items():
        if settings.cal and cal is not None and cal.scores == START:
            which = f"arms.{arm}.scores" if plan.recipe.arms else "cal.scores"
            raise RecipeError(
                f"{which}: {START!r} scores all records before the first step: not with data.streaming; name a file of "
                "`contralign score`, whose rows are found by id and digest"
            )


def refuse_streams(plan: RunPlan) -> None:
    """An ablation keeps models by the records they saw, which a stream does not tell beforehand.

    Raises:
        RecipeError: a stage streams.
    """
    for stage in plan.stages.values():
        if stage.data.streaming:
            raise RecipeError(
                f"stages.{stage.name}: data.streaming is not for ablations, which know models by their records"
            )


def _check_name(path: str, name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
        raise RecipeError(f"{path}: {name!r} becomes a folder; use letters, digits, '-', '_' and '.'")
