"""`model=tiny-shape`: a full recipe rehearsed on this machine, in seconds and without a download.

Stages, what learns in them, rates, groups, templates, treatment of pictures, sampler and CAL stay the recipe's; the
model keeps its architecture and loses its size. What changes is plain to see in the resolved recipe:

- model: `shape: tiny`, random weights, a tokenizer learnt from the texts; no projector or tokenizer from elsewhere
- stages: `STEPS` steps of `GLOBAL_BATCH` records in batches of `BATCH`
- data: the built-in `SOURCE`, unless other data are given with the shorthand
- trainer: records are read in the training process; name: its own, so that runs do not meet
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from contralign.training.recipe import Recipe
from contralign.training.schema import RecipeError

TINY_SHAPE = "tiny-shape"
STEPS, BATCH, GLOBAL_BATCH, RECORDS = 4, 2, 8, 64
SOURCE, HELD_OUT = "scenes:train", "scenes:heldout"

OF_DATA = ("train", "image_root", "settings")
"""Settings that say which records are read."""


def rehearsed(values: Mapping[str, Any], given: Collection[str], name: str) -> dict[str, Any]:
    """The values of a recipe, changed into those of its rehearsal.

    Args:
        values: of the full recipe, merged into its base.
        given: dotted keys of what is changed afterwards: data that are given there are not replaced here.
        name: of the recipe.

    Raises:
        RecipeError: the recipe's model has no family whose shape could be small.
    """
    model = values.get("model") or {}
    if not isinstance(model, Mapping) or model.get("family") is None:
        there = model.get("path") if isinstance(model, Mapping) else model
        raise RecipeError(
            f"model: {TINY_SHAPE} makes the parts of a model.family small, and this recipe starts from {there!r}: "
            "change its settings one by one"
        )
    kept = {key: value for key, value in model.items() if key not in ("projector", "tokenizer")}
    stages = values.get("stages") or {}
    changed = {
        "name": f"{name}-{TINY_SHAPE}",
        "model": {**kept, "shape": "tiny"},
        "data": _data(values.get("data") or {}, "data" in given or "data.train" in given),
        "stages": {stage: _stage(stage, settings, given) for stage, settings in stages.items() if settings},
        "trainer": {**(values.get("trainer") or {}), "dataloader_num_workers": 0},
    }
    return {**{key: value for key, value in values.items() if key != "output_dir"}, **changed}


def _data(data: Mapping[str, Any], given: bool) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key not in OF_DATA}
    if given:
        return kept
    if kept.get("eval"):
        kept |= {"eval": HELD_OUT, "settings": {HELD_OUT: {"count": RECORDS}}}
    return {**kept, "train": SOURCE}


def _stage(name: str, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in ("steps", "epochs")}
    data = {key: value for key, value in (settings.get("data") or {}).items() if key not in OF_DATA}
    own = {f"stages.{name}", f"stages.{name}.data", f"stages.{name}.data.train"}
    if not own.intersection(given) and not {"data", "data.train"}.intersection(given):
        data["settings"] = {SOURCE: {"count": RECORDS}}
    batches = {"global_batch": GLOBAL_BATCH} if kept.get("global_batch") is not None else {}
    return {**kept, "steps": STEPS, "batch_size": BATCH, **batches, "data": data}


def rehearsal_line(recipe: Recipe) -> str | None:
    """What a rehearsal is, in one line; None for a recipe of full shape."""
    if recipe.model.shape != "tiny":
        return None
    steps = ", ".join(f"{name} {stage.steps or f'{stage.epochs:g} epochs'}" for name, stage in recipe.stages.items())
    sources = dict.fromkeys(source for name in recipe.stages for source in recipe.stage_data(name).train)
    return (
        f"Rehearsal: {recipe.model.family} in tiny shape with random weights; steps: {steps}; records: "
        f"{', '.join(sources)}. All else is as in the full recipe."
    )
