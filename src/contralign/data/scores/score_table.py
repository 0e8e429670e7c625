"""The table of a score file: one row a sample, lists with one entry a label token, settings in the metadata.

    id, index, source                     the sample, its index in the scored data, the file it came from
    digest, text_digest, picture_digest   of what was scored (`contralign.data.scores.score_digest`)
    num_pictures                          0: Δ is 0
    position, label                       of every label token: index in the row (image tokens counted), token id
    delta_logit, delta_centred,
    delta_logprob                         Δ; a file may hold some of them
    nll, nll_without                      nats, with the picture and without (the latter needs logprob)

Settings are JSON values in the metadata of the schema, under "contralign.NAME"; `digests` among them are of the
columns (`contralign.data.scores.column_digests`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from contralign.core.settings import Score
from contralign.data.records.messages import Sample
from contralign.data.scores.score_digest import RowDigest

FORMAT = 2
READ_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError)
"""What pyarrow raises of a damaged file."""
_PREFIX = "contralign."
_SETTINGS_DIGEST = "contralign.settings digest"
_SAMPLE_FIELDS: dict[str, tuple[pa.DataType, Callable[[ScoredSample], Any]]] = {
    "id": (pa.string(), lambda row: row.sample.id),
    "index": (pa.int64(), lambda row: row.index),
    "source": (pa.string(), lambda row: row.sample.source),
    "digest": (pa.uint64(), lambda row: row.digest.whole),
    "text_digest": (pa.uint64(), lambda row: row.digest.text),
    "picture_digest": (pa.uint64(), lambda row: row.digest.pictures),
    "num_pictures": (pa.int32(), lambda row: len(row.sample.pictures)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSample:
    """One row of the table.

    Attributes:
        sample: that was scored.
        index: its index in the scored data.
        digest: of its row.
        position: (label tokens,) index in the row.
        label: (label tokens,) token id.
        values: (label tokens,) for each column of `value_columns`.
    """

    sample: Sample
    index: int
    digest: RowDigest
    position: NDArray[np.int32]
    label: NDArray[np.int32]
    values: Mapping[str, NDArray[np.float32]]


def value_columns(scores: Sequence[Score]) -> tuple[str, ...]:
    """Names of the float columns of a file with these scores."""
    without = ("nll_without",) if "logprob" in scores else ()
    return (*(f"delta_{score}" for score in scores), "nll", *without)


def token_columns(scores: Sequence[Score]) -> tuple[str, ...]:
    """Names of the columns with one entry a label token."""
    return ("position", "label", *value_columns(scores))


def score_schema(scores: Sequence[Score]) -> pa.Schema:
    """Names and types of the columns."""
    lists = {name: pa.list_(pa.float32()) for name in value_columns(scores)}
    places = {name: pa.list_(pa.int32()) for name in ("position", "label")}
    return pa.schema({name: kind for name, (kind, _) in _SAMPLE_FIELDS.items()} | places | lists)


def score_table(rows: Sequence[ScoredSample], scores: Sequence[Score]) -> pa.Table:
    """Rows as a table."""
    lengths = [len(row.position) for row in rows]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))

    def lists(values: Sequence[NDArray[Any]], kind: pa.DataType) -> pa.Array:
        flat = np.concatenate(values) if values else np.zeros(0)
        return pa.ListArray.from_arrays(offsets, pa.array(flat, type=kind))

    columns = [
        *(pa.array([value(row) for row in rows], kind) for kind, value in _SAMPLE_FIELDS.values()),
        lists([row.position for row in rows], pa.int32()),
        lists([row.label for row in rows], pa.int32()),
        *(lists([row.values[name] for row in rows], pa.float32()) for name in value_columns(scores)),
    ]
    return pa.Table.from_arrays(columns, schema=score_schema(scores))


def with_settings(schema: pa.Schema, settings: Mapping[str, Any]) -> pa.Schema:
    """The schema with settings in its metadata."""
    packed = {f"{_PREFIX}{name}": json.dumps(value, sort_keys=True) for name, value in settings.items()}
    return schema.with_metadata(packed | {_SETTINGS_DIGEST: _digest(packed)})


def settings_of(schema: pa.Schema) -> dict[str, Any]:
    """The settings in a schema's metadata; empty if `contralign score` has not made it.

    Raises:
        ValueError: they are damaged or were changed.
    """
    packed = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
    packed = {name: value for name, value in packed.items() if name.startswith(_PREFIX)}
    if packed and packed.pop(_SETTINGS_DIGEST, None) != _digest(packed):
        raise ValueError("its settings do not hold what was written")
    return {name.removeprefix(_PREFIX): json.loads(value) for name, value in packed.items() if name.startswith(_PREFIX)}


def _digest(packed: Mapping[str, str]) -> str:
    return xxhash.xxh3_128_hexdigest("\n".join(f"{name}={packed[name]}" for name in sorted(packed)).encode())


def setting_differences(scored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for every setting of `now` that differs in `scored`."""
    return [
        f"{name} was {scored.get(name)!r}, is {value!r}"
        for name, value in now.items()
        if _as_json(scored.get(name)) != _as_json(value)
    ]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
