"""Names of steps and results by everything that determines them: what is equal has one name and is done once.

A key is a digest of settings and of the key before it, down to the model that training starts from, and of contralign's
version. Settings that cannot change a step are left out of its key: what is evaluated, the sizes of held-out sets,
swapped pictures in a step that reads texts alone. So are those left at their defaults, so that a setting which a later
version adds makes nothing anew. Files are named by path, size and time of change, and names that a package adds
with the package's version.

The machine is not in a key. Workers on several machines may share a folder or a store, and a run that was stopped may
go on elsewhere: what one machine has made is then taken for all of them, so that pairs of equal seed keep one start.
Arms that were trained on two processors differ by the processor as well, which widens intervals over seeds. Every
result says which machines made it, and tables name their processors.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from contralign import __version__
from contralign.contrast.registry import FORMER, NONE, read_spelling
from contralign.recipe.data_settings import DataSettings, is_builtin, set_name
from contralign.recipe.model_settings import PARTS
from contralign.recipe.packages import packages_of, packages_of_cal
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.recipe import Recipe, plain
from contralign.training.cal_settings import CalSettings

OF_PARTS = ("family", *PARTS, "tokenizer", "projector")
"""Settings of a model that is put together."""


def origin_key(plan: RunPlan) -> str:
    """Of the model that the first stage starts from.

    A tiny model has a tokenizer learnt from the texts of stages: of their sources and settings, in order. Swapped
    pictures move no text.
    """
    recipe = plan.recipe
    model = recipe.model
    if model.family is not None and model.shape == "full":
        named = {name: getattr(model, name) for name in OF_PARTS}
        return digest("assembled", recipe.seed, named, [_stamp(name) for name in named.values()], model.dtype)
    if not model.is_made:
        return digest("model", model.path, _stamp(model.path))
    texts = [_records(plan.stages[stage].data, plan.stages[stage].data.train) for stage in plan.tokenizer_stages]
    if model.family is not None:
        return digest("tiny shape", recipe.seed, model.parts, texts)
    return digest("tiny", recipe.seed, plain(model.tiny), texts)


def step_key(parent: str, recipe: Recipe, stage: StagePlan, cal: CalSettings | None) -> str:
    """Of one stage on top of what `parent` names.

    Args:
        parent: key of the step before.
        recipe: resolved.
        stage: of the plan; its name is not in the key.
        cal: settings of the arm; None is plain training.
    """
    settings, data = stage.settings, stage.data
    own = {name: value for name, value in stated(settings).items() if name not in ("data", "cal")}
    parts = [parent, recipe.seed, _loading(recipe), own, _records(data, data.train), _layout(data)]
    if settings.kind == "align":
        parts += [recipe.trainer, _noise(data, recipe.seed)]
        if recipe.trainer.get("eval_strategy", "no") != "no":
            parts.append(_records(recipe.data, recipe.data.eval))
        if cal is not None and settings.cal:
            parts += [[_stated_cal(cal), _stamp(cal.scores)], *packages_of_cal(cal)]
    return digest("step", *parts)


def result_key(last: str, recipe: Recipe) -> str:
    """Of the evaluations of what the step `last` ends in."""
    packages = packages_of("evaluations", recipe.evaluate)
    return digest("result", last, recipe.evaluate, _records(recipe.data, recipe.data.eval), *packages)


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that are equal for equal parts."""
    text = json.dumps([__version__, *parts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _loading(recipe: Recipe) -> Any:
    """How models are loaded and which weights are new."""
    of_origin = ("path", "tiny", "tokenizer_stages", "shape", *OF_PARTS)
    return {name: value for name, value in stated(recipe.model).items() if name not in of_origin}


def stated(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as mappings, lists and scalars."""

    def default(item: Any) -> Any:
        return item.default if item.default_factory is MISSING else item.default_factory()

    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {item.name: plain(values[item.name]) for item in fields(settings) if values[item.name] != default(item)}


def _stated_cal(cal: CalSettings) -> dict[str, Any]:
    """The same of CAL's settings, with one name for all spellings of a contrast: that of its former fields."""
    told = stated(cal)
    if "contrast" in told and cal.contrast != NONE:
        name, settings = read_spelling(told.pop("contrast"))
        former = {place: field for field, place in FORMER.items()}
        told |= {former.get((name, setting), f"contrast.{setting}"): value for setting, value in settings.items()}
        told |= {} if name == "drop" else {"contrast": name}
    return told


def _records(data: DataSettings, sources: Sequence[str]) -> Any:
    """Which records are read, with nothing that changes their pictures afterwards."""
    read = [[source, data.source_settings(source) if is_builtin(source) else _stamp(source)] for source in sources]
    roots = list(data.image_root) if not all(map(is_builtin, sources)) else []
    packages = packages_of("sets", [set_name(source) for source in sources if is_builtin(source)])
    return [read, roots, data.on_bad, *packages]


def _layout(data: DataSettings) -> Any:
    layout = [data.template, data.image_aspect, data.max_length]
    return layout if data.pictures else [*layout, "no pictures"]


def _noise(data: DataSettings, seed: int) -> Any:
    if data.swap_noise == 0:
        return None
    return [data.swap_noise, seed if data.noise_seed is None else data.noise_seed]


def _stamp(path: str | None) -> Any:
    """Name, size and time of change of a file, or of every file of a model directory; the path alone elsewhere."""
    if path is None:
        return None
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place] if place.is_file() else []
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    return [path, stamps]
