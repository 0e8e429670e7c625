"""`scores: start`: the second look is taken once, by the model that a stage starts from, before its first step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from contralign import __version__
from contralign.contrast.drop import DropImage
from contralign.core.label_readings import DELTA
from contralign.core.settings import Score
from contralign.data.records.mixture import SampleSet
from contralign.data.scores.score_digest import model_digest
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.model_settings import ModelSettings
from contralign.run.build import load_model, load_processor, model_folder
from contralign.run.records import AnySamples, make_collator
from contralign.run.score_files import noise_settings
from contralign.scoring import score_samples
from contralign.training.cal_settings import START
from contralign.training.config import CalConfig
from contralign.training.scores import column_read


def with_start_scores(
    cal: CalConfig, path: str, model: ModelSettings, samples: AnySamples, data: DataSettings, seed: int, output: Path
) -> CalConfig:
    """The settings with a score file of the stage's records in the place of "start"; others as they are.

    Args:
        cal: of the stage.
        path: directory or name of the model that the stage starts from.
        model: how it is loaded.
        samples: the stage's records, swaps included.
        data: of the stage.
        seed: of the recipe.
        output: the score file; one that an interrupted run has written, or begun, is gone on with.

    Raises:
        BadRecord, UnsupportedModel, ValueError: see `contralign.scoring.score_samples`.
    """
    if cal.scores != START:
        return cal
    assert isinstance(samples, SampleSet)  # a recipe that streams is refused
    # A weighting that takes one look, such as rho1, has no contrast: its column does not depend on the second.
    contrast = cal.without_scores().second_look() or DropImage()
    about = {**model_settings(path, model), **noise_settings(data, seed)}
    output.parent.mkdir(parents=True, exist_ok=True)
    score_samples(
        lambda: load_model(path, model).eval().to(PartialState().device),
        make_collator(load_processor(path), data, keep_pictures=contrast.reencodes),
        samples,
        output,
        about,
        contrast=contrast,
        scores=_scores_for(column_read(cal)),
    )
    PartialState().wait_for_everyone()
    return replace(cal, scores=str(output))


def model_settings(path: str, model: ModelSettings) -> dict[str, Any]:
    """What a score file says of the model that made it, and of the code.

    Args:
        path: directory or name of the model.
        model: how it is loaded.
    """
    folder = model_folder(path)
    return {
        "version": __version__,
        "model": str(folder),
        "model_digest": model_digest(folder),
        "dtype": model.dtype,
        **({} if model.quantization == "none" else {"quantization": model.quantization}),
    }


def _scores_for(column: str) -> tuple[Score, ...]:
    """The cheapest scores with which a file has the column."""
    if column == "nll_without":
        return ("logprob",)
    return tuple(score for score, reading in DELTA.items() if reading == column) or ("logit",)
