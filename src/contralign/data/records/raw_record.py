"""Unparsed records of a stream, which cost little to skip.

Parsing one reads its text alone. Pictures are located, read and checked when a batch needs them, so that a resumed run
and other ranks skip records without opening a picture.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contralign.data.records.archive_member import ArchiveMember
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.formats.llava_json import picture_values
from contralign.data.records.images import LazyImage, checked_name
from contralign.data.records.messages import Sample
from contralign.data.records.record_sample import record_sample, trainable_sample

_MAX_JSON_BYTES = 64 * 2**20


class RawRecord(Protocol):
    """A record as a shard yields it.

    Attributes:
        name: file and place in it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def read(self) -> Any:
        """The parsed record; its pictures may be file names, {"bytes": …} or members of an archive."""
        ...


@dataclass(frozen=True, slots=True)
class JsonLine:
    """A line of a JSONL file."""

    name: str
    line: bytes

    def read(self) -> Any:
        """See `RawRecord`."""
        return parsed(self.line)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table, pictures still encoded."""

    name: str
    row: Mapping[str, Any]

    def read(self) -> Any:
        """See `RawRecord`."""
        return self.row


@dataclass(frozen=True, slots=True)
class TarRecord:
    """A record of a tar archive: its JSON, and its pictures in the order of the archive."""

    name: str
    text: ArchiveMember
    pictures: tuple[ArchiveMember, ...]

    def read(self) -> Any:
        """The JSON, the pictures that it names replaced by those of the archive, in order.

        Raises:
            BadRecord: `unreadable_shard`, `cut_off`, `bad_json`, `ambiguous`, or `picture_count` if it names more or
                fewer pictures than the archive has.
        """
        try:
            record = parsed(self.text.read())
        except OSError as error:
            raise BadRecord("unreadable_shard", f"{self.text.path.name} cannot be read: {error}") from error
        if not isinstance(record, Mapping):
            return record
        count, held = len(picture_values(record)), len(self.pictures)
        key = next((key for key in ("image", "images") if record.get(key) is not None), None)
        if key is not None and count != held:
            raise BadRecord("picture_count", f"{key!r} names {count} pictures, the archive has {held} for it")
        return {**record, key or "images": list(self.pictures)} if key or held else record


def parsed(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        BadRecord: `bad_json`, also for more than 64 MiB.
    """
    if len(text) > _MAX_JSON_BYTES:
        raise BadRecord("bad_json", f"{len(text):,} bytes of JSON in one record; wanted {_MAX_JSON_BYTES:,} or fewer")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecord("bad_json", f"this is no JSON: {error}") from error


def streamed_sample(raw: RawRecord, root: Path | None, origin: str) -> Sample:
    """The sample of a raw record, its pictures as `LazyImage`.

    Args:
        raw: the record.
        root: folder of the pictures that it names.
        origin: file or set it came from.

    Raises:
        BadRecord: with the record's name, and what is wrong with its text.
    """
    try:
        return trainable_sample(record_sample(_deferred(raw.read(), root), raw.name, root, origin))
    except BadRecord as fault:
        raise fault.named(raw.name) from fault


def _deferred(record: Any, root: Path | None) -> Any:
    """The record with a `LazyImage` in the place of every picture; other values stay, for its reader to refuse."""
    if not isinstance(record, Mapping):
        return record
    changed = dict(record)
    for key in ("image", "images"):
        value = record.get(key)
        if value is not None:
            changed[key] = _each(value, lambda picture: _deferred_picture(picture, root))
    if isinstance(record.get("messages"), (list, tuple)):
        changed["messages"] = _each(record["messages"], lambda message: _deferred_message(message, root))
    return changed


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    return [change(one) for one in value] if isinstance(value, (list, tuple)) else change(value)


def _deferred_message(message: Any, root: Path | None) -> Any:
    def part(part: Any) -> Any:
        if not isinstance(part, Mapping) or part.get("type") != "image":
            return part
        return {**part, **{key: _deferred_picture(part.get(key), root) for key in ("image", "path", "url")}}

    content = message.get("content") if isinstance(message, Mapping) else None
    return {**message, "content": [part(each) for each in content]} if isinstance(content, (list, tuple)) else message


def _deferred_picture(value: Any, root: Path | None) -> Any:
    """The picture, unread; what cannot be one stays, for the reader of the record to refuse."""
    if isinstance(value, str):
        return LazyImage(*checked_name(value, root))
    if isinstance(value, ArchiveMember):
        return LazyImage(value)
    if not isinstance(value, Mapping):
        return value
    if value.get("bytes") is None and root is None:
        checked_name(value.get("path"), root)
    return LazyImage(value, root)
