"""Digests of the values of a score file, a column each, so that what was changed or damaged is never trained on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

LARGEST = 1e6
"""A Δ or a loss beyond it is no number that a model gives."""


class ColumnDigests:
    """Digests of columns that are read or written piece by piece; how they are split does not matter."""

    def __init__(self) -> None:
        self._content: dict[str, xxhash.xxh3_128] = {}
        self._lengths: dict[str, xxhash.xxh3_128] = {}

    def update(self, table: pa.Table) -> None:
        """Take in the next rows."""
        for name in table.column_names:
            content = self._content.setdefault(name, xxhash.xxh3_128())
            lengths = self._lengths.setdefault(name, xxhash.xxh3_128())
            for chunk in table[name].chunks:
                if pa.types.is_list(chunk.type):
                    lengths.update(_bytes(pc.list_value_length(chunk)))  # type: ignore[attr-defined]
                    content.update(_bytes(pc.list_flatten(chunk)))  # type: ignore[attr-defined]
                elif pa.types.is_string(chunk.type):
                    lengths.update(_bytes(pc.binary_length(chunk)))  # type: ignore[attr-defined]
                    content.update("".join(chunk.to_pylist()).encode())
                else:
                    content.update(_bytes(chunk))

    def of(self) -> dict[str, str]:
        """Column -> digest, as hexadecimal text."""
        return {
            name: xxhash.xxh3_128_hexdigest(content.digest() + self._lengths[name].digest())
            for name, content in self._content.items()
        }


def check_table(table: pa.Table) -> None:
    """Refuse columns in which a value is missing, or a number is not finite or absurd.

    Raises:
        ValueError: with the column, and the line of the file's piece.
    """
    for name in table.column_names:
        flat = table[name].combine_chunks()
        if flat.null_count:
            raise ValueError(f"{name} has no value in {flat.null_count} of {len(flat)} lines")
        if not pa.types.is_list(flat.type):
            continue
        values = pc.list_flatten(flat)  # type: ignore[attr-defined]
        if values.null_count:
            raise ValueError(f"{name} has no value at {values.null_count} of {len(values)} tokens")
        if pa.types.is_floating(values.type):
            sizes = np.abs(values.to_numpy())
            wrong = np.flatnonzero(~(sizes <= LARGEST))
            if len(wrong):
                raise ValueError(f"{name} holds {values[int(wrong[0])].as_py()}, which no model gives")


def _bytes(values: pa.Array) -> bytes:
    return values.to_numpy(zero_copy_only=False).tobytes()
