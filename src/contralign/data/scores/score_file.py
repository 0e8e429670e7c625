"""Cached scores: Δ, or a loss, of every label token of a data set, read for training (`cal.scores=FILE`).

`contralign score` writes the file; `contralign.data.scores.score_table` says what is in it. A flat table, one line
a token:

    pandas.read_parquet(file).explode([*ScoreFile.open(file).token_columns])
    duckdb: select id, unnest(position) as position, unnest(delta_logit) as delta_logit from 'scores.parquet'
    polars.read_parquet(file).explode("position", "label", "delta_logit", "delta_logprob", "nll", "nll_without")
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contralign.core.settings import Score
from contralign.data.records.messages import Sample
from contralign.data.scores.score_digest import RowDigest, row_digest
from contralign.data.scores.score_index import ScoreIndex, id_key
from contralign.data.scores.score_table import (
    FORMAT,
    READ_ERRORS,
    score_schema,
    setting_differences,
    settings_of,
    token_columns,
    value_columns,
)
from contralign.data.text.image_token_expansion import ExpandedSample


class ScoreMismatch(ValueError):
    """A score file of other data or settings; no `BadRecord`, so it is never skipped."""


class ScoreFile:
    """One column of a score file, found by sample.

    A sample is found by its id (without the "#2" that `load_samples` adds to repeated ids, which depends on the
    mixture) and the digest of its tokens, labels and pictures. So order, shuffling and mixtures do not matter, and
    changed data are refused.

    Memory: 4 bytes a label token and 28 a sample, in arrays that forked DataLoader workers share: 665,000 samples of
    150 label tokens are 0.42 GB. Spawned workers open the file themselves.

    Attributes:
        path: of the file.
        column: Δ of a score, `nll` or `nll_without`; see `contralign.data.scores.score_table`.
        settings: of the scoring: model, template, contrast, max_length, data …
    """

    def __init__(self, path: Path, column: str, settings: Mapping[str, Any], index: ScoreIndex) -> None:
        self.path = path
        self.column = column
        self.settings = dict(settings)
        self.index = index

    @classmethod
    def open(cls, path: str | Path, column: str = "delta_logit") -> ScoreFile:
        """Read one column into memory.

        Raises:
            ValueError: no such file, no score file, another format, one without this column, or one that is damaged or
                was changed.
        """
        path = Path(path)
        settings = read_settings(path)
        held = value_columns(settings["scores"])
        if column not in held:
            raise ValueError(f"score file {str(path)!r} holds {', '.join(held)}, not {column!r}: {_way_to(column)}")
        try:
            with pq.ParquetFile(path) as file:
                if file.metadata.num_rows != settings["num_scored"]:
                    raise ValueError(
                        f"{settings['num_scored']:,} samples were written, {file.metadata.num_rows:,} are there"
                    )
                index = ScoreIndex.read(file, column, settings["num_tokens"], settings["digests"])
        except READ_ERRORS as error:
            raise ValueError(
                f"score file {str(path)!r} is damaged or was changed: {first_line(error)}. Score again, or take a "
                "whole copy"
            ) from error
        return cls(path, column, settings, index)

    def __len__(self) -> int:
        return len(self.index.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return ScoreFile.open, (str(self.path), self.column)

    @property
    def token_columns(self) -> tuple[str, ...]:
        """Columns with one entry a label token."""
        return token_columns(self.settings["scores"])

    def check(self, settings: Mapping[str, Any]) -> None:
        """See `check_settings`."""
        check_settings(self.path, self.settings, settings)

    def check_ids(self, ids: Iterable[str]) -> None:
        """Refuse data with samples whose ids are not in the file.

        Raises:
            ScoreMismatch: with their number and the first three.
        """
        names = list(ids)
        keys = np.fromiter((id_key(name) for name in names), np.uint64, len(names))
        unknown = np.flatnonzero(~np.isin(keys, self.index.keys))
        if len(unknown):
            first = ", ".join(repr(names[place]) for place in unknown[:3])
            raise ScoreMismatch(
                f"score file {str(self.path)!r} lacks {len(unknown):,} of {len(names):,} samples, such as {first}: it "
                f"holds {len(self):,} samples of {self._origin()}. Score what you train on"
            )

    def values_of(self, sample: Sample, row: ExpandedSample) -> NDArray[np.float32]:
        """(label tokens,) float32: the column's values of a row, in order.

        Args:
            sample: of the row.
            row: its tokens before padding, after truncation.

        Raises:
            ScoreMismatch: the file lacks this sample, or has it with other tokens, labels or pictures.
        """
        digest = row_digest(sample, row)
        values = self.index.find(id_key(sample.id), digest.whole)
        if values is None:
            name = f"{sample.source}, {sample.id}" if sample.source else sample.id
            raise ScoreMismatch(
                f"score file {str(self.path)!r}, sample {name}: {self._difference(name, sample, digest)}"
            )
        return values

    def tokens(self) -> pa.Table:
        """The flat table: one line a label token, with `id`, `index` and `source` of its sample."""
        table = pq.read_table(self.path)
        parents = pc.list_parent_indices(table["position"].combine_chunks())  # type: ignore[attr-defined]
        repeated = {name: table[name].take(parents) for name in ("id", "index", "source")}
        flat = {name: pc.list_flatten(table[name]) for name in self.token_columns}  # type: ignore[attr-defined]
        return pa.table(repeated | flat)

    def _origin(self) -> str:
        return ", ".join(self.settings["sources"]) or "no named source"

    def _difference(self, name: str, sample: Sample, digest: RowDigest) -> str:
        """What differs from what was scored, and what to do."""
        table = pq.read_table(self.path, columns=["id", "text_digest", "picture_digest"])
        key = id_key(sample.id)
        rows = [row for row in table.to_pylist() if id_key(row["id"]) == key]
        if not rows:
            skipped = [bad for bad in self.settings["bad_records"] if bad["record"] in (name, sample.id)]
            if skipped:
                return f"it was left out when the data were scored: {skipped[0]['message']} [{skipped[0]['reason']}]"
            return f"unknown id; the file holds {len(self):,} samples of {self._origin()}. Score what you train on"
        same_text = [row for row in rows if row["text_digest"] == digest.text]
        if not same_text:
            picture = "" if any(row["picture_digest"] == digest.pictures for row in rows) else " and another picture"
            return (
                f"another text{picture} (token ids differ) than was scored; the record, the tokenizer, the template, "
                "max_length or the size of pictures has changed. Score again, or take the data that were scored"
            )
        if all(row["picture_digest"] != digest.pictures for row in same_text):
            return (
                "another picture than was scored; the file of the picture has changed, or swap_noise gave the record "
                "another one. Score with the recipe of the training (--recipe), or take the pictures that were scored"
            )
        return "other labels than were scored: the label mask (template) has changed. Score again"


def _way_to(column: str) -> str:
    """How to get a column that a file lacks."""
    columns = {f"delta_{score}": score for score in get_args(Score)} | {"nll_without": "logprob"}
    if column not in columns:
        return "no score file does"
    return f"score again with --score {columns[column]}, or train with what it holds (cal.score)"


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a score file; only its footer is read.

    Raises:
        ValueError: no such file, no score file, or another format.
    """
    if not path.is_file():
        raise ValueError(f"score file {str(path)!r} is not there, or a folder; `contralign score` writes one")
    try:
        schema = pq.read_schema(path)
        settings = settings_of(schema)
    except READ_ERRORS as error:
        raise ValueError(f"{str(path)!r} is no score file, or a damaged one: {first_line(error)}") from error
    if not settings:
        raise ValueError(f"{str(path)!r} is a parquet file, but not of `contralign score`")
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"score file {str(path)!r} has format {_short(settings.get('format'))}; this version reads {FORMAT}: score "
            "again"
        )
    _check_settings_themselves(path, settings)
    if not schema.equals(score_schema(settings["scores"])):
        raise ValueError(
            f"score file {str(path)!r} has other columns than its settings say: it was changed; score again"
        )
    return settings


_SETTINGS: dict[str, Callable[[Any], bool]] = {
    "scores": lambda value: isinstance(value, list) and bool(value) and all(name in get_args(Score) for name in value),
    "num_tokens": lambda value: type(value) is int and value >= 0,
    "num_scored": lambda value: type(value) is int and value >= 0,
    "sources": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "bad_records": lambda value: isinstance(value, list) and all(map(_is_bad_record, value)),
    "digests": lambda value: isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values()),
}
"""Settings that this module reads, and what they must be."""


def _check_settings_themselves(path: Path, settings: Mapping[str, Any]) -> None:
    for name, is_right in _SETTINGS.items():
        if not is_right(settings.get(name)):
            value = _short(settings.get(name))
            raise ValueError(f"score file {str(path)!r} is damaged or was changed: its setting {name} is {value}")


def _is_bad_record(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("record", "reason", "message"))


def _short(value: Any) -> str:
    return reprlib.repr(value)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_settings(path: Path, scored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a file that was made with other settings.

    Args:
        path: of the file, for the message.
        scored: its settings.
        wanted: settings that it must have; "column" is a column that it must hold.

    Raises:
        ScoreMismatch: naming every setting that differs.
    """
    found = setting_differences(scored, {name: value for name, value in wanted.items() if name != "column"})
    held = value_columns(scored["scores"])
    if "column" in wanted and wanted["column"] not in held:
        found.append(f"it holds {', '.join(held)}, not {wanted['column']}")
    if found:
        raise ScoreMismatch(
            f"score file {str(path)!r} was made otherwise: {'; '.join(found)}. Score again with the settings of this "
            "training (contralign score --recipe RECIPE takes them from a recipe), or train with those of the file"
        )
