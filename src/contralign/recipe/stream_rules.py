"""What a recipe's stages may and may not do with streamed records, said before anything is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from contralign.recipe.data_settings import DataSettings
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import ALONE, Stage
from contralign.training.cal_settings import START

if TYPE_CHECKING:
    from contralign.recipe.recipe import Recipe


IDLE_OVER_STREAMS = ("dataloader_drop_last", "dataloader_persistent_workers")
"""Arguments of the Trainer about the end of a pass, which a stream does not have."""


def check_streams(recipe: Recipe) -> None:
    """Refuse what cannot go with a stream, and settings of the records' order that have no effect.

    Raises:
        RecipeError: with the setting's name.
    """
    of_stage = {name: recipe.stage_data(name) for name in recipe.stages}
    for name, stage in recipe.stages.items():
        if stage.kind in ALONE and stage.data.get("sampler", "random") != "random":
            raise RecipeError(f"stages.{name}.data.sampler has no effect with kind={stage.kind!r}: leave it out")
        if of_stage[name].streaming:
            _check_stage(recipe, name, stage, of_stage[name])
    streams = [name for name in recipe.stages if of_stage[name].streaming]
    idle = [name for name in IDLE_OVER_STREAMS if recipe.trainer.get(name)]
    if idle and len(streams) == len(recipe.stages):
        raise RecipeError(f"trainer.{idle[0]} has no effect: a stream has no end at which it would count")
    counted = [name for name in streams if of_stage[name].count is not None]
    if counted and all(recipe.stages[name].steps is not None for name in streams):
        raise RecipeError(f"data.count={of_stage[counted[0]].count} has no effect: every streaming stage has steps")


def _check_stage(recipe: Recipe, name: str, stage: Stage, data: DataSettings) -> None:
    place = f"stages.{name}"
    if stage.kind in ALONE:
        raise RecipeError(f"{place}.kind: {stage.kind!r} reads all records at once: set {place}.data.streaming=false")
    if stage.epochs is not None and data.count is None:
        raise RecipeError(
            f"{place}.epochs={stage.epochs}: a stream has no length to count epochs by; give steps, or data.count, the "
            "number of its records"
        )
    if recipe.model.cache_features:
        raise RecipeError("model.cache_features: not with data.streaming, whose pictures are too many to keep")
    for arm, cal in recipe.arm_configs().items():
        if stage.cal and cal is not None and cal.scores == START:
            which = f"arms.{arm}.scores" if recipe.arms else "cal.scores"
            raise RecipeError(
                f"{which}: {START!r} scores all records before the first step: not with data.streaming; name a file of "
                "`contralign score`, whose rows are found by id and digest"
            )


def refuse_streams(recipe: Recipe) -> None:
    """An ablation keeps models by the records they saw, which a stream does not tell beforehand.

    Raises:
        RecipeError: a stage streams.
    """
    for name in recipe.stages:
        if recipe.stage_data(name).streaming:
            raise RecipeError(f"stages.{name}: data.streaming is not for ablations, which know models by their records")


def stream_steps(recipe: Recipe, name: str, num_ranks: int) -> int | None:
    """Steps of `epochs` passes over a stream of `data.count` records; None for what is no stream or has `steps`.

    Args:
        recipe: that the stage is of.
        name: of the stage.
        num_ranks: processes that take batches.
    """
    stage, data = recipe.stages[name], recipe.stage_data(name)
    if stage.epochs is None or not data.streaming or data.count is None:
        return None
    return math.ceil(stage.epochs * data.count / (stage.batch_size * stage.accumulation(num_ranks) * num_ranks))
