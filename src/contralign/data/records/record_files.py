"""Records of JSON and JSONL files, each named by file and line or index."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contralign.data.records.bad_record import BadRecord


def read_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (name, record) for every record; for a line of JSONL that is no JSON, the record is a `BadRecord`.

    Raises:
        ValueError: no such file, another kind of file, a JSON file that does not parse or holds no list, no records.
    """
    if not path.is_file():
        raise ValueError(f"data file {str(path)!r} does not exist; wanted a .json or .jsonl file")
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"data file {str(path)!r}: wanted the ending .json or .jsonl")
    count = 0
    for name, record in _json_lines(path) if path.suffix == ".jsonl" else _json_list(path):
        count += 1
        yield name, record
    if count == 0:
        raise ValueError(f"data file {str(path)!r} holds no records")


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                record = BadRecord("bad_json", f"this line is no JSON: {error}")
            yield f"{path.name}:{number}", record


def _json_list(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        records = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"data file {str(path)!r} does not parse: {error}; is it JSONL? name it .jsonl") from error
    if not isinstance(records, list):
        raise ValueError(f"data file {str(path)!r} holds a {type(records).__name__}; wanted a list of records")
    for index, record in enumerate(records):
        yield f"{path.name}[{index}]", record
