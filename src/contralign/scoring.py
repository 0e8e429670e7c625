"""Scoring: Δ of every label token of a data set into a score file, in parts, so that a killed run can resume."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from contralign.contrast.base import Contrast
from contralign.core.passes import PassComparison
from contralign.core.settings import Score
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.mixture import SampleSet
from contralign.data.scores.score_digest import row_digest, samples_digest
from contralign.data.scores.score_file import read_settings
from contralign.data.scores.score_parts import ScoreParts
from contralign.data.scores.score_table import FORMAT, ScoredSample, value_columns
from contralign.reading import SCORES, SampleReader, check_batch_size, contrast_settings

PART_SIZE = 2048


@dataclass(frozen=True, kw_only=True)
class ScoringSummary:
    """What scoring did.

    Attributes:
        path: the score file.
        samples: number of its rows.
        tokens: number of its label tokens.
        bad: number of skipped records, by reason.
        found: number of samples that an earlier run had scored.
        seconds: duration of this run.
    """

    path: Path
    samples: int
    tokens: int
    bad: dict[str, int]
    found: int
    seconds: float


def score_samples(
    load_model: Callable[[], Any],
    collator: VLCollator,
    samples: SampleSet,
    output: Path,
    about: Mapping[str, Any],
    *,
    contrast: Contrast,
    scores: Sequence[Score] = SCORES,
    batch_size: int = 16,
    part_size: int = PART_SIZE,
    fresh: bool = False,
) -> ScoringSummary | None:
    """Write a score file, or resume one that was begun with the same settings.

    Under torchrun or `accelerate launch` the processes share the parts, and the last to finish joins them. The file
    does not depend on their number.

    Args:
        load_model: makes the model; called only if something is left to score.
        collator: of its processor; `on_bad` decides on bad records.
        samples: to score.
        output: the score file; its parts are beside it until it is complete.
        about: other settings to record: `version`, `model`, `model_digest`, `dtype`, `data` …
        contrast: of the second pass.
        scores: forms of Δ; the file also holds the loss, and with "logprob" the loss of the second pass.
        batch_size: samples in a batch; they have about equal length.
        part_size: samples in a part, and so the most that a kill loses.
        fresh: start anew, whatever an earlier run left.

    Returns:
        None in all but one of several processes.

    Raises:
        BadRecord: a bad record under `on_bad="error"`; a Δ that is not finite is one.
        UnsupportedModel: no adapter serves the model, or the contrast is not right for it.
        ValueError: the output is another file, or it or its parts were made with other settings.
    """
    started = time.monotonic()
    check_batch_size(contrast, batch_size)
    settings = {
        "format": FORMAT,
        **about,
        **collator.settings,
        **contrast_settings(contrast),
        "scores": list(scores),
        "batch_size": batch_size,
        "part_size": part_size,
        "sources": list(dict.fromkeys(sample.source for sample in samples if sample.source)),
        "num_samples": len(samples),
        "samples_digest": samples_digest(samples),
    }
    parts, state = ScoreParts(output, settings), PartialState()
    if broadcast_object_list([parts.begin(fresh) if state.is_main_process else None])[0]:
        return _summary(output, read_settings(output), len(samples), started) if state.is_main_process else None
    if state.is_main_process:
        parts.remove_damaged()
    state.wait_for_everyone()
    own = range(state.process_index, len(parts.ranges), state.num_processes)
    missing = [number for number in own if number in set(parts.missing)]
    found = sum(len(parts.ranges[number]) for number in own if number not in missing)
    if missing:
        reader = SampleReader(load_model(), collator, contrast, scores)
        reader.fix_mean(samples.samples)
        with _progress(sum(len(parts.ranges[number]) for number in own), found, state) as bar:
            for number in missing:
                parts.write(number, *_score_part(reader, samples, parts.ranges[number], batch_size, bar))
    if parts.folder.exists() and parts.missing:
        return None
    return _summary(output, parts.merge(samples.report.bad), found, started)


def _score_part(
    reader: SampleReader, samples: SampleSet, part: range, batch_size: int, bar: tqdm
) -> tuple[list[ScoredSample], list[BadRecord]]:
    """Rows of a part in the order of the data, and its skipped records."""
    rows: list[ScoredSample] = []
    bad: list[BadRecord] = []
    batches = _batches(samples, part, batch_size)
    collated = reader.collated([samples[index] for index in batch] for batch in batches)
    for batch, encoded in zip(batches, collated, strict=True):
        looks = reader.look(encoded, draw=min(batch))
        bad += encoded.skipped_records
        for row in _rows(samples, batch, encoded, looks, reader.scores):
            fault = _not_finite(row)
            if fault is None:
                rows.append(row)
            elif reader.collator.on_bad == "skip":
                bad.append(fault)
            else:
                raise fault
        bar.update(len(batch))
    return sorted(rows, key=lambda row: row.index), bad


def _batches(samples: SampleSet, part: range, batch_size: int) -> list[list[int]]:
    """Indices of a part in batches of about equal length, longest first, so that memory runs out early if at all."""

    def length(index: int) -> tuple[int, int, int]:
        sample = samples[index]
        return len(sample.pictures), sum(len(turn.text) for turn in sample.turns), index

    order = sorted(part, key=length, reverse=True)
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def _rows(
    samples: SampleSet, batch: Sequence[int], encoded: EncodedBatch, looks: PassComparison, scores: Sequence[Score]
) -> Iterator[ScoredSample]:
    """The rows of one batch; samples that the collator skipped have none."""
    values = {f"delta_{score}": looks.delta[score].float().cpu().numpy() for score in scores}
    values["nll"] = looks.nll.float().cpu().numpy()
    if "delta_logprob" in values:
        values["nll_without"] = values["nll"] + values["delta_logprob"]
    indices = iter(batch)
    for line, (sample, row) in enumerate(zip(encoded.samples, encoded.rows, strict=True)):
        if sample is None:
            continue
        index = next(index for index in indices if samples[index] is sample)
        position = np.asarray(row.label_positions, dtype=np.int32)
        columns = position + encoded.offsets[line] - 1
        yield ScoredSample(
            sample=sample,
            index=index,
            digest=row_digest(sample, row),
            position=position,
            label=np.asarray(row.labels, dtype=np.int32)[position],
            values={name: values[name][line, columns] for name in value_columns(scores)},
        )


def _not_finite(row: ScoredSample) -> BadRecord | None:
    for name, values in row.values.items():
        places = row.position[~np.isfinite(values)]
        if len(places):
            return BadRecord(
                "not_finite",
                f"{name} of the token at {places[0]} is not finite; the model overflows on it (try another dtype)",
                f"{row.sample.source}, {row.sample.id}" if row.sample.source else row.sample.id,
            )
    return None


def _progress(total: int, done: int, state: PartialState) -> tqdm:
    """Samples, samples a second and the time left; a line every half minute where the output is no terminal."""
    return tqdm(
        total=total,
        initial=done,
        desc="scoring" if state.num_processes == 1 else f"scoring, process 1 of {state.num_processes}",
        unit="sample",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        disable=not state.is_main_process,
        dynamic_ncols=True,
    )


def _summary(output: Path, settings: Mapping[str, Any], found: int, started: float) -> ScoringSummary:
    return ScoringSummary(
        path=output,
        samples=settings["num_scored"],
        tokens=settings["num_tokens"],
        bad=dict(Counter(bad["reason"] for bad in settings["bad_records"]).most_common()),
        found=found,
        seconds=time.monotonic() - started,
    )
