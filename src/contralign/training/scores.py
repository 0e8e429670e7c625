"""Score files in training: `CalConfig(scores=FILE)` meets collator, data and recipe before the first step."""

import logging
from pathlib import Path
from typing import Any

from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Sample
from contralign.data.records.mixture import SampleSet
from contralign.data.scores.score_file import ScoreFile, check_settings, read_settings
from contralign.reading import contrast_settings
from contralign.training.cal_settings import START
from contralign.training.config import CalConfig
from contralign.weighting.base import column_of, stored_reading

logger = logging.getLogger(__name__)

_PROBES = 16


def with_cached_scores(cal: CalConfig, collator: VLCollator, train: Any) -> VLCollator:
    """The collator with what the weighting reads of `cal.scores` in its batches, once the file is known to be right.

    All ids of the training data must be in the file where they can be listed without opening a picture (a `SampleSet`
    or a list), and some samples spread over the data are compared token by token and picture by picture. Every other
    sample is compared when its batch is made.

    Args:
        cal: with `scores`.
        collator: of the training; if it has scores already, they must be those of `cal`.
        train: the training data; None where there are none.

    Raises:
        ScoreMismatch: the file was made with other settings or of other data.
        ValueError: no such file, or the collator has another one.
    """
    if cal.scores == START:
        raise ValueError(
            f"scores={START!r} is for recipes, which know the model that a stage starts from: write a file with "
            "`contralign score`, or take ./start if that is its name"
        )
    path, column = Path(cal.scores or ""), column_read(cal)
    settings = read_settings(path)
    check_settings(path, settings, {**collator.settings, **settings_read(cal)})
    if collator.scores is None:
        collator = collator.with_scores(ScoreFile.open(path, column))
    elif collator.scores.path.resolve() != path.resolve() or collator.scores.column != column:
        raise ValueError(
            f"the collator brings {collator.scores.column} of {str(collator.scores.path)!r}, and CalConfig reads "
            f"{column} of {cal.scores!r}: leave scores out of the collator, or give both the same"
        )
    _check_samples(collator, train)
    logger.info("%s of %s: %d samples, scored by %s", column, path, settings["num_scored"], settings.get("model"))
    return collator


def settings_read(cal: CalConfig) -> dict[str, Any]:
    """What a file must say of the contrast, and hold; a reference model's loss is of one look, whatever the other.

    Args:
        cal: with `scores`.
    """
    if not cal.compares:
        return {"column": column_read(cal)}
    contrast = cal.without_scores().second_look()
    assert contrast is not None  # contrast="none" with scores is refused by CalConfig
    return {**contrast_settings(contrast), "column": column_read(cal)}


def column_read(cal: CalConfig) -> str:
    """The column of a score file that stands in for what the weighting reads.

    Args:
        cal: with `scores`.
    """
    stored = stored_reading(cal.token_weighting())
    assert stored is not None  # scores for a weighting that reads none are refused by CalConfig
    return column_of(stored)


def _check_samples(collator: VLCollator, train: Any) -> None:
    """Compare ids, and some samples whole."""
    if not isinstance(train, SampleSet | list | tuple) or not len(train) or not isinstance(train[0], Sample):
        return
    assert collator.scores is not None
    collator.scores.check_ids(sample.id for sample in train)
    probe = collator.with_own_counts()
    step = max(len(train) // _PROBES, 1)
    probe.encode_batch([train[index] for index in range(0, len(train), step)][:_PROBES])
