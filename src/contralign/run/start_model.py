"""The model that a recipe starts from, made where it names none that is there: the tiny LLaVA, or one of parts."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from contralign.data.records.messages import IMAGE, Sample
from contralign.models.assembly.assemble import assemble, assemble_tiny
from contralign.models.assembly.part_configs import part_configs
from contralign.models.assembly.part_weights import fetch_part
from contralign.models.small.tiny import build_tiny
from contralign.recipe.model_settings import TINY, ModelSettings
from contralign.recipe.schema import RecipeError, check_keywords
from contralign.run.build import DTYPES, save_folder


def save_start(settings: ModelSettings, samples: Iterable[Sample], seed: int, folder: Path) -> None:
    """Make the model that a recipe starts from where it names none that is there: the tiny LLaVA, or one of parts.

    Args:
        settings: `is_made`.
        samples: of the recipe; read only where a tokenizer is learnt from them.
        seed: of what is new.
        folder: where to.

    Raises:
        RecipeError: see `save_tiny` and `save_assembled`.
    """
    save = save_tiny if settings.path == TINY else save_assembled
    save(settings, samples, seed, folder)


def save_tiny(settings: ModelSettings, samples: Iterable[Sample], seed: int, folder: Path) -> None:
    """Build the tiny LLaVA, with a tokenizer learnt from the samples, and save it.

    Raises:
        RecipeError: see `check_tiny`.
    """
    check_tiny(settings)
    model, processor = build_tiny(_texts(samples), seed=seed, **settings.tiny)
    save_folder(folder, model, processor)


def check_tiny(settings: ModelSettings) -> None:
    """Refuse settings of the tiny LLaVA that its builder does not have or refuses.

    Raises:
        RecipeError: with the setting's dotted place.
    """
    check_keywords(build_tiny, settings.tiny, "model.tiny", given=("texts", "out_dir", "seed"))
    try:
        with torch.device("meta"):  # every shape, no weights
            build_tiny(("any word",), **settings.tiny)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"model.tiny: {error}") from error


def check_parts(settings: ModelSettings) -> None:
    """Refuse a model put together from parts of which one cannot be had; no weights are read or fetched.

    Raises:
        RecipeError: with the part.
    """
    parts = [settings.language_model, settings.vision_tower, settings.aux_tower, settings.tokenizer]
    try:
        part_configs(str(settings.language_model), str(settings.vision_tower), settings.aux_tower)
        for part in filter(None, parts if settings.shape == "full" else ()):
            fetch_part(part, weights=False)
    except ValueError as error:
        raise RecipeError(f"model: {error}") from error
    if settings.projector is not None and not Path(settings.projector).exists():
        raise RecipeError(f"model.projector: {settings.projector!r} is neither a file nor a model directory")


def save_assembled(settings: ModelSettings, samples: Iterable[Sample], seed: int, folder: Path) -> None:
    """Put a model together from the parts that the settings name, or make its tiny shape, and save it.

    Args:
        settings: with a family.
        samples: what the tokenizer of a tiny shape learns from; not read for a full one.
        seed: of what is new.
        folder: where to.

    Raises:
        RecipeError: a part cannot be found or read, or does not fit; the message says which.
    """
    try:
        if settings.shape == "tiny":
            model, processor = assemble_tiny(**settings.parts, texts=_texts(samples), seed=seed)
        else:
            model, processor = assemble(
                **settings.parts,
                projector=settings.projector,
                tokenizer=settings.tokenizer,
                dtype=DTYPES[settings.dtype],
                seed=seed,
            )
    except ValueError as error:
        raise RecipeError(f"model: {error}") from error
    save_folder(folder, model, processor)


def _texts(samples: Iterable[Sample]) -> Iterator[str]:
    return (turn.text.replace(IMAGE, "") for sample in samples for turn in sample.turns)
