"""The shards of a stream: JSONL, tar, Parquet and Arrow files and parts of hub data sets, read piece by piece."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.raw_record import JsonLine, RawRecord, TableRow
from contralign.data.streams.tar_shard import tar_records

HUB = "hub:"
_ROWS = 64
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class Shard:
    """A file of records.

    Attributes:
        path: the file: .jsonl, .tar, .parquet or .arrow.
        root: folder of the pictures that its records name.
    """

    path: Path
    root: Path | None = None

    @property
    def name(self) -> str:
        """The shard in messages."""
        return self.path.name

    def records(self) -> Iterator[RawRecord | BadRecord]:
        """Yield all records in order, not parsed, and a `BadRecord` for what cannot be read; the same every time."""
        try:
            yield from _READERS[self.path.suffix](self.path)
        except (OSError, pa.ArrowException) as error:
            yield _unreadable(self.name, error)


@dataclass(frozen=True)
class HubShard:
    """A part of a data set on the hub, streamed by `datasets`.

    Attributes:
        source: "OWNER/NAME" or "OWNER/NAME:SPLIT".
        rows: the part, as `datasets.IterableDataset`, with encoded pictures.
        part: its number.
        root: folder of the pictures that its records name.
    """

    source: str
    rows: Any
    part: int
    root: Path | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.source}[{self.part}]"

    def records(self) -> Iterator[RawRecord | BadRecord]:
        """See `Shard.records`."""
        try:
            for index, row in enumerate(self.rows):
                yield TableRow(f"{self.name}[{index}]", row)
        except (OSError, ValueError, pa.ArrowException) as error:
            yield _unreadable(self.name, error)


def find_shards(source: str | Path, root: Path | None) -> list[Shard | HubShard]:
    """The shards of a source, sorted by name.

    Args:
        source: a file, a pattern with ``*``, ``?``, ``[…]`` or braces such as ``shard-{000..127}.tar`` and ``{a,b}``,
            or ``hub:OWNER/NAME`` (also ``hub:OWNER/NAME:SPLIT``).
        root: folder of the pictures that its records name.

    Raises:
        ValueError: no such file, a format that is not streamed, a URL or a pipe, or a hub that cannot be reached.
    """
    written = str(source)
    if written.startswith(HUB):
        return list(_hub_shards(written.removeprefix(HUB), root))
    if re.match(r"[a-z0-9+]+://|pipe:", written):
        raise ValueError(
            f"{written!r}: only files are streamed, since a resumed run has to find the same bytes again and a picture "
            "is read at its place; mount the store, or copy the shards"
        )
    paths = [path for name in expand_braces(written) for path in (sorted(glob(name)) if has_magic(name) else [name])]
    if not paths:
        raise ValueError(f"{written!r}: no file has such a name")
    for path in map(Path, paths):
        if path.suffix not in _READERS:
            raise ValueError(f"data file {str(path)!r} cannot be streamed: {_advice(path)}")
        if not path.is_file():
            raise ValueError(f"data file {str(path)!r} does not exist")
    return [Shard(Path(path), root) for path in paths]


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for: ``{000..127}`` is a range, ``{a,b}`` a list.

    Raises:
        ValueError: braces with neither in them, nested, or not closed.
    """
    opening = pattern.find("{")
    if opening < 0:
        if "}" in pattern:
            raise ValueError(f"{pattern!r}: a brace closes that was not opened")
        return [pattern]
    closing = pattern.find("}", opening)
    inside = pattern[opening + 1 : closing]
    if closing < 0 or "{" in inside:
        raise ValueError(f"{pattern!r}: wanted braces that close, one beside the other")
    rests = expand_braces(pattern[closing + 1 :])
    return [pattern[:opening] + choice + rest for choice in _choices(inside) for rest in rests]


def _choices(inside: str) -> list[str]:
    counted = _RANGE.fullmatch(inside)
    if counted:
        first, last = counted.groups()
        width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
        if int(first) > int(last):
            raise ValueError(f"{{{inside}}} counts down: wanted {{{last}..{first}}}")
        return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
    if "," in inside:
        return inside.split(",")
    raise ValueError(f"{{{inside}}}: wanted {{000..127}} or {{a,b}}")


def _jsonl(path: Path) -> Iterator[RawRecord]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield JsonLine(f"{path.name}:{number}", line)


def _parquet(path: Path) -> Iterator[RawRecord]:
    """Rows of a Parquet file, by pyarrow: a stream of `datasets` can abort the process that leaves it early."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from _rows(path, file.iter_batches(batch_size=_ROWS, use_threads=False))


def _arrow(path: Path) -> Iterator[RawRecord]:
    """Rows of an Arrow stream, which is what `datasets` keeps its sets in."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
        yield from _rows(path, batches)


def _rows(path: Path, batches: Any) -> Iterator[RawRecord]:
    index = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                yield TableRow(f"{path.name}[{index}]", row)
                index += 1


def _hub_shards(source: str, root: Path | None) -> Iterator[HubShard]:
    import datasets

    name, _, split = source.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train", streaming=True).decode(False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{HUB}{source}: cannot be streamed from the hub: {error}") from error
    for part in range(rows.num_shards):
        yield HubShard(source, rows.shard(rows.num_shards, part), part, root)


def _unreadable(name: str, error: Exception) -> BadRecord:
    return BadRecord("unreadable_shard", f"the rest cannot be read: {error}", name)


def _advice(path: Path) -> str:
    if path.suffix == ".json":
        return "a JSON list has to be read whole; write it as .jsonl, one record a line"
    if path.suffix in (".gz", ".tgz", ".zst", ".bz2", ".xz"):
        return "unpack it: places in a packed file cannot be found again"
    return f"wanted {', '.join(_READERS)}"


_READERS = {".jsonl": _jsonl, ".tar": tar_records, ".parquet": _parquet, ".arrow": _arrow}
