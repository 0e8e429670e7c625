"""The job of `contralign score`, from its options or from a recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import PartialState

from contralign.core.settings import Score
from contralign.data.records.mixture import SampleSet
from contralign.reading import SCORES
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import ModelSettings
from contralign.recipe.recipe import Recipe, plain
from contralign.recipe.recipe_file import apply_override, find_recipe, load_plan
from contralign.recipe.schema import RecipeError, from_mapping
from contralign.run.build import check_vocabulary, load_model, load_processor
from contralign.run.preflight import cal_config
from contralign.run.records import RecordReader, make_collator, with_swaps
from contralign.run.score_files import noise_settings
from contralign.run.start_scores import model_settings
from contralign.scoring import ScoringSummary, score_samples
from contralign.training.cal_settings import CalSettings
from contralign.training.config import CalConfig


@dataclass(frozen=True, kw_only=True)
class ScoringJob:
    """Data to score, and the model and contrast to score them with.

    Attributes:
        model: directory or name, dtype and attention.
        data: the records; those of `train` are scored, swaps included.
        seed: of swaps, where `data` has none of its own.
        cal: names the contrast.
    """

    model: ModelSettings
    data: DataSettings
    seed: int
    cal: CalConfig


def job_from_options(
    model: str,
    sources: Sequence[str],
    data: Mapping[str, Any],
    settings: Sequence[str],
    dtype: str,
    cal: Mapping[str, Any],
) -> ScoringJob:
    """The job of the command's options.

    Args:
        model: directory or name.
        sources: files and built-in sets.
        data: other fields of `DataSettings`, as given.
        settings: "scenes.count=200": of built-in sets.
        dtype: of the weights.
        cal: fields of `CalConfig` that name the contrast.

    Raises:
        RecipeError: no sources, or a value that cannot be followed.
    """
    if not sources:
        raise RecipeError("nothing to score: name files or built-in sets (scenes:train), or give --recipe")
    of_sets: dict[str, Any] = {}
    for change in settings:
        of_sets = apply_override(of_sets, change)
    return ScoringJob(
        model=from_mapping(ModelSettings, {"path": model, "dtype": dtype}, "model"),
        data=from_mapping(DataSettings, {**data, "train": list(sources), "settings": of_sets}, "data"),
        seed=0,
        cal=cal_config(from_mapping(CalSettings, cal, "cal")),
    )


def job_from_recipe(model: str, name: str, changes: Sequence[str], stage: str | None, dtype: str | None) -> ScoringJob:
    """The job of a recipe's stage: its records, noise, template and contrast.

    Args:
        model: directory or name; not the recipe's, whose model may have stages of training before this one.
        name: of the recipe.
        changes: to it, "key=value".
        stage: which one, where several have CAL.
        dtype: of the weights; None takes the recipe's.

    Raises:
        RecipeError: a recipe without CAL, or no such stage.
    """
    plan = load_plan(find_recipe(name), changes)
    recipe = plan.recipe
    kept = ("attn_implementation", "cache_features", "feature_gib", "feature_folder")
    own = {"path": model, "dtype": dtype or recipe.model.dtype, **{name: getattr(recipe.model, name) for name in kept}}
    if recipe.cal is None:
        raise RecipeError(f"{name} trains nothing with CAL: name the data instead of --recipe")
    return ScoringJob(
        model=from_mapping(ModelSettings, own, "model"),
        data=plan.stages[_stage(recipe, name, stage)].data,
        seed=recipe.seed,
        cal=cal_config(recipe.cal),
    )


def _stage(recipe: Recipe, name: str, stage: str | None) -> str:
    aligned = [each for each, settings in recipe.stages.items() if settings.cal]
    if stage is None and len(aligned) > 1:
        raise RecipeError(f"{name} has CAL in the stages {', '.join(aligned)}: say which one with --stage")
    if stage is not None and stage not in aligned:
        raise RecipeError(f"--stage {stage}: the stages of {name} with CAL are {', '.join(aligned)}")
    return stage or aligned[0]


def run_job(
    job: ScoringJob,
    output: Path,
    *,
    score: str = "both",
    batch_size: int = 16,
    part_size: int = 2048,
    device: str | None = None,
    fresh: bool = False,
) -> ScoringSummary | None:
    """Score; all settings and records are checked before the model is loaded.

    Args:
        job: what to score.
        output: the score file.
        score: "logit", "centred", "logprob", or "both", which are the first and the last.
        batch_size: see `score_samples`.
        part_size: likewise.
        device: None is the accelerator, where there is one.
        fresh: likewise.

    Raises:
        BadRecord: a bad record under `on_bad="error"`.
        ValueError: something named is not there or does not fit; see `score_samples`.
    """
    if score not in (*get_args(Score), "both"):
        raise RecipeError(f"--score {score}: wanted {', '.join(get_args(Score))} or both")
    contrast = job.cal.without_scores().second_look()
    if contrast is None:
        raise RecipeError("contrast='none' takes no second look: there is no Δ to score")
    place, path = _device(device), str(job.model.path)
    processor = load_processor(path)
    check_vocabulary(path, processor)
    collator = make_collator(processor, job.data, keep_pictures=contrast.reencodes)
    samples = RecordReader().read(job.data, job.data.train, "data", collator.check)
    samples, _ = with_swaps(samples, job.data, job.seed)
    assert isinstance(samples, SampleSet)  # read whole, also where training would stream them
    data = plain(job.data)
    about = {
        **model_settings(path, job.model),
        "data": {name: data[name] for name in ("train", "image_root", "settings")},
        **noise_settings(job.data, job.seed),
    }
    return score_samples(
        lambda: load_model(path, job.model).eval().to(place),
        collator,
        samples,
        output,
        about,
        contrast=contrast,
        scores=[each for each in get_args(Score) if each == score or (score == "both" and each in SCORES)],
        batch_size=batch_size,
        part_size=part_size,
        fresh=fresh,
    )


def _device(name: str | None) -> torch.device:
    state = PartialState(cpu=not torch.accelerator.is_available())  # on a CPU too, torchrun's processes find each other
    if name is None:
        return torch.device(state.device or "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device
