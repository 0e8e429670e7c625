"""Records of plain coloured pictures as JSONL files, tar shards and tables."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(shade: int) -> bytes:
    """A picture of one shade."""
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 40, 90)).save(encoded, "PNG")
    return encoded.getvalue()


def record(number: int, picture: object = None) -> dict:
    """A LLaVA record; without a picture one of text alone."""
    asked = "which shade?" if picture is None else "<image>\nwhich shade?"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": f"shade {number}"}]
    return {"id": f"r{number}", **({} if picture is None else {"image": picture}), "conversations": turns}


def write_jsonl(path: Path, numbers: Sequence[int], pictures: bool = True) -> Path:
    """One record a line; picture n is n.png beside the file."""
    lines = []
    for number in numbers:
        if pictures:
            (path.parent / f"{number}.png").write_bytes(png(number))
        lines.append(json.dumps(record(number, f"{number}.png" if pictures else None)))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """An archive of these members."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tar_members(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    """KEY.json and KEY.png of every record."""
    return [
        member
        for number in numbers
        for member in (
            (f"{number:05d}.json", json.dumps(record(number, f"{number}.png")).encode()),
            (f"{number:05d}.png", png(number)),
        )
    ]


def table(numbers: Sequence[int]) -> pa.Table:
    """The records as `datasets` keeps them, pictures as bytes."""
    return pa.Table.from_pylist([record(number, {"bytes": png(number), "path": None}) for number in numbers])


def write_parquet(path: Path, numbers: Sequence[int]) -> Path:
    """A Parquet file with small row groups."""
    pq.write_table(table(numbers), path, row_group_size=3)
    return path


def write_arrow(path: Path, numbers: Sequence[int]) -> Path:
    """An Arrow stream."""
    rows = table(numbers)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=3)
    return path
