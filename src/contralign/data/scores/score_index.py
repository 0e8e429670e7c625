"""One column of a score file in memory, in arrays sorted by id and digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contralign.data.scores.column_digests import ColumnDigests, check_table

_COPY_NUMBER = re.compile(r"#\d+$")


class ScoreIndex:
    """Rows of a score file, sorted by (hashed id, digest).

    Attributes:
        keys: (samples,) hashed ids, sorted.
        digests: (samples,) sorted among equal keys.
        rows: (samples,) index of each in the file.
        offsets: (samples + 1,) first value of each row of the file.
        values: (tokens,) the column, float32.
    """

    def __init__(
        self, ids: Sequence[str], digests: NDArray[np.uint64], offsets: NDArray[np.int64], values: NDArray[np.float32]
    ) -> None:
        keys = np.fromiter(map(id_key, ids), np.uint64, len(ids))
        order = np.lexsort((digests, keys))
        self.keys, self.digests = keys[order], digests[order]
        self.rows = order.astype(np.int32)
        self.offsets = offsets
        self.values = values

    @classmethod
    def read(cls, file: pq.ParquetFile, column: str, num_tokens: int, digests: Mapping[str, str]) -> ScoreIndex:
        """Read a column, one row group at a time, so that nothing is in memory twice.

        Args:
            file: of scores.
            column: to read.
            num_tokens: values in it.
            digests: of the columns, as they were written.

        Raises:
            ValueError: the file does not hold what was written, or a value that no model gives.
        """
        ids: list[str] = []
        row_digests, lengths = [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
        values = np.empty(num_tokens, np.float32)
        filled, found = 0, ColumnDigests()
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["id", "digest", column])
            check_table(table)
            found.update(table)
            ids += table["id"].to_pylist()
            row_digests.append(table["digest"].to_numpy())
            lengths.append(pc.list_value_length(table[column]).to_numpy())  # type: ignore[attr-defined]
            flat = pc.list_flatten(table[column]).to_numpy()  # type: ignore[attr-defined]
            filled += len(flat)
            if filled > num_tokens:
                break
            values[filled - len(flat) : filled] = flat
        changed = [name for name, digest in found.of().items() if digests.get(name) != digest]
        if changed or filled != num_tokens:
            raise ValueError(f"{', '.join(changed) or column} does not hold what was written")
        return cls(ids, np.concatenate(row_digests), np.cumsum(np.concatenate(lengths), dtype=np.int64), values)

    def find(self, key: int, digest: int) -> NDArray[np.float32] | None:
        """The values of the row with this key and digest; None if there is none."""
        first = np.searchsorted(self.keys, np.uint64(key), "left")
        last = np.searchsorted(self.keys, np.uint64(key), "right")
        place = first + np.searchsorted(self.digests[first:last], np.uint64(digest))
        if place == last or self.digests[place] != np.uint64(digest):
            return None
        row = self.rows[place]
        return self.values[self.offsets[row] : self.offsets[row + 1]]


def id_key(sample_id: str) -> int:
    """Hash of an id without its copy number ("#2")."""
    plain = _COPY_NUMBER.sub("", sample_id).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")
