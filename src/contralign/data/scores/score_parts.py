"""Parts of a score file, each of a fixed range of samples, so that a killed run loses one part at most.

    scores.parquet.parts/manifest.json       the settings that every part was made with
                         part-00000.parquet  samples 0 to part_size - 1, and so on

Every file is written atomically, and so is the file that the parts become; only then are they removed. Several
processes may write parts side by side.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contralign.atomic_write import atomic_write
from contralign.data.records.bad_record import BadRecord
from contralign.data.scores.column_digests import ColumnDigests
from contralign.data.scores.score_file import first_line, read_settings
from contralign.data.scores.score_table import (
    READ_ERRORS,
    ScoredSample,
    score_schema,
    score_table,
    setting_differences,
    settings_of,
    with_settings,
)

logger = logging.getLogger(__name__)


class ScoreParts:
    """The parts of one score file.

    Args:
        output: the score file.
        settings: go into the file; `scores`, `num_samples` and `part_size` must be among them.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output = output
        self.settings = dict(settings)
        self.folder = output.with_name(f"{output.name}.parts")
        self.manifest = self.folder / "manifest.json"

    def begin(self, fresh: bool = False) -> bool:
        """Prepare to write parts, or to go on with those of a killed run.

        Args:
            fresh: remove the parts of an earlier run; an existing score file is replaced at the end.

        Returns:
            True if there is nothing to do: the score file is there, with the same settings.

        Raises:
            ValueError: the output is something else, or it or its parts were made with other settings.
        """
        found = self._differences_to_output() if self.output.exists() else None
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif found == []:
            shutil.rmtree(self.folder, ignore_errors=True)
            return True
        elif self.manifest.exists():
            self._check_manifest()
        elif found:
            raise ValueError(
                f"{str(self.output)!r} is a score file made with other settings ({'; '.join(found)}): write to another "
                "file, or replace it with --fresh"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.manifest.exists():
            with self._atomic_write(self.manifest) as partial:
                partial.write_text(json.dumps(self.settings, indent=2, sort_keys=True), encoding="utf-8")
        return False

    @property
    def ranges(self) -> list[range]:
        """Range of sample indices of every part."""
        count, size = self.settings["num_samples"], self.settings["part_size"]
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are still to be written."""
        return [number for number in range(len(self.ranges)) if not self._path(number).exists()]

    def remove_damaged(self) -> None:
        """Remove parts that cannot be read or do not hold what was written; a warning names them.

        They are scored again.
        """
        for number in range(len(self.ranges)):
            path = self._path(number)
            if path.exists():
                try:
                    self._read(path)
                except ValueError as error:
                    logger.warning("%s", error)
                    path.unlink(missing_ok=True)

    def write(self, number: int, rows: Sequence[ScoredSample], bad: Sequence[BadRecord]) -> None:
        """Write one part: its rows and its skipped records."""
        table = score_table(rows, self.settings["scores"])
        digests = ColumnDigests()
        digests.update(table)
        about = {
            "num_tokens": sum(len(row.position) for row in rows),
            "bad_records": bad_as_json(bad),
            "digests": digests.of(),
        }
        with self._atomic_write(self._path(number)) as partial:
            pq.write_table(table.cast(with_settings(table.schema, about)), partial, compression="zstd")

    def merge(self, bad: Sequence[BadRecord] = ()) -> dict[str, Any]:
        """Join the parts, one row group each, and remove them. Another process may have done it already.

        Args:
            bad: records that were skipped when the data were read.

        Returns:
            The settings in the file, with `num_scored`, `num_tokens` and `bad_records`.
        """
        try:
            return self._merge(bad)
        except FileNotFoundError:
            if self.output.exists() and not self._differences_to_output():
                return read_settings(self.output)
            raise

    def _merge(self, bad: Sequence[BadRecord]) -> dict[str, Any]:
        paths = [self._path(number) for number in range(len(self.ranges))]
        about = [settings_of(pq.read_schema(path)) for path in paths]
        digests = ColumnDigests()
        for path in paths:
            digests.update(self._read(path))
        settings = {
            **self.settings,
            "num_scored": sum(pq.read_metadata(path).num_rows for path in paths),
            "num_tokens": sum(part["num_tokens"] for part in about),
            "digests": digests.of(),
            "bad_records": bad_as_json(bad) + [record for part in about for record in part["bad_records"]],
        }
        schema = with_settings(score_schema(self.settings["scores"]), settings)
        with (
            self._atomic_write(self.output) as partial,
            pq.ParquetWriter(partial, schema, compression="zstd") as writer,
        ):
            for path in paths:
                table = self._read(path)
                writer.write_table(table.cast(schema), row_group_size=max(table.num_rows, 1))
        shutil.rmtree(self.folder, ignore_errors=True)
        return settings

    def _read(self, path: Path) -> pa.Table:
        """The table of a part.

        Raises:
            FileNotFoundError: it is not there (any more).
            ValueError: it cannot be read, or does not hold what was written.
        """
        try:
            table, found = pq.read_table(path), ColumnDigests()
            found.update(table)
            wanted = settings_of(table.schema)["digests"]
        except FileNotFoundError:
            raise
        except READ_ERRORS as error:
            raise ValueError(f"{path} cannot be read: {first_line(error)}; the same command scores it again") from error
        if found.of() != wanted:
            raise ValueError(f"{path} does not hold what was written; the same command scores it again")
        return table

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def _atomic_write(self, path: Path) -> AbstractContextManager[Path]:
        return atomic_write(path, self.folder / f"{path.name}.{os.getpid()}.partial")

    def _differences_to_output(self) -> list[str]:
        try:
            there = read_settings(self.output)
        except ValueError as error:
            raise ValueError(f"will not write over what is there: {error}. Write to another file") from error
        return setting_differences(there, self.settings)

    def _check_manifest(self) -> None:
        try:
            before = json.loads(self.manifest.read_text(encoding="utf-8"))
            found = setting_differences(before, self.settings)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{str(self.manifest)!r} is damaged: {first_line(error)}. Throw the parts away with --fresh, or write "
                "to another file"
            ) from error
        if found:
            raise ValueError(
                f"{str(self.folder)!r} holds parts of a run with other settings ({'; '.join(found)}): go on with those "
                "settings, throw the parts away with --fresh, or write to another file"
            )


def bad_as_json(bad: Sequence[BadRecord]) -> list[dict[str, str]]:
    """Bad records as in the metadata of a score file."""
    return [{"record": fault.record, "reason": fault.reason, "message": fault.message} for fault in bad]
