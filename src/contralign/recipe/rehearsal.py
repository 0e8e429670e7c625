"""`model=tiny-shape`: a full recipe rehearsed on this machine, in seconds and without a download.

Stages, what learns in them, rates, groups, templates, treatment of pictures, sampler and CAL stay the recipe's; the
model keeps its architecture and loses its size. What changes is plain to see in the resolved recipe:

- model: `shape: tiny`, random weights, a tokenizer learnt from the texts; no projector or tokenizer from elsewhere
- stages: `STEPS` steps of `GLOBAL_BATCH` records in batches of `BATCH`
- data: the built-in `SOURCE`, unless other data are given with the shorthand
- trainer: records are read in the training process; name: its own, so that runs do not meet
"""

from collections.abc import Collection, Mapping
from typing import Any

from contralign.recipe.plan import RunPlan
from contralign.recipe.schema import RecipeError

TINY_SHAPE = "tiny-shape"
STEPS, BATCH, GLOBAL_BATCH, RECORDS = 4, 2, 8, 64
SOURCE, HELD_OUT = "scenes:train", "scenes:heldout"

OF_RECORDS = ("train", "image_root", "settings", "count")
"""Settings that say which records are read."""
OF_STREAMS = ("streaming", "shuffle_buffer")
"""Settings that the built-in set, made in memory, has no use for."""


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
    kept = _without_records(data, given)
    if given:
        return kept
    if kept.get("eval"):
        kept |= {"eval": HELD_OUT, "settings": {HELD_OUT: {"count": RECORDS}}}
    return {**kept, "train": SOURCE}


def _stage(name: str, settings: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in ("steps", "epochs")}
    places = {"data", "data.train", f"stages.{name}", f"stages.{name}.data", f"stages.{name}.data.train"}
    brings_data = bool(places.intersection(given))
    data = _without_records(settings.get("data") or {}, brings_data)
    if not brings_data:
        data["settings"] = {SOURCE: {"count": RECORDS}}
    shrunk: dict[str, Any] = {"batch_size": BATCH}
    if f"stages.{name}.epochs" not in given:
        shrunk["steps"] = STEPS
    if kept.pop("global_batch", None) is not None and f"stages.{name}.grad_accumulation" not in given:
        shrunk["global_batch"] = GLOBAL_BATCH
    return {**kept, **shrunk, "data": data}


def _without_records(data: Mapping[str, Any], given: bool) -> dict[str, Any]:
    dropped = OF_RECORDS if given else (*OF_RECORDS, *OF_STREAMS)
    return {key: value for key, value in data.items() if key not in dropped}


def rehearsal_line(plan: RunPlan) -> str | None:
    """What a rehearsal is, in one line; None for a recipe of full shape."""
    model, stages = plan.recipe.model, plan.recipe.stages
    if model.shape != "tiny":
        return None
    steps = ", ".join(f"{name} {stage.steps or f'{stage.epochs:g} epochs'}" for name, stage in stages.items())
    sources = dict.fromkeys(source for stage in plan.stages.values() for source in stage.data.train)
    return (
        f"Rehearsal: {model.family} in tiny shape with random weights; steps: {steps}; records: "
        f"{', '.join(sources)}. All else is as in the full recipe."
    )
