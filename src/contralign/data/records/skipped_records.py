"""Lists of skipped records on the disk, which all workers and ranks write and one process reads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from torch.utils.data import get_worker_info

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.mixture import LoadReport


class SkippedRecords:
    """A folder with two files a reader: the number of records it yielded, and the bad records it skipped.

    Args:
        folder: None is a temporary one, removed with this object.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="contralign-stream-"))
            weakref.finalize(self, _remove, folder, os.getpid())
        self.folder = folder

    def reader(self, number: int) -> SkippedRecordsWriter:
        """The files of one reader, to write: its count starts again at 0, its skipped records are kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return SkippedRecordsWriter(self.folder / f"{number:05d}")

    def report(self) -> LoadReport:
        """What all readers wrote: records are counted each time they are yielded, bad records once."""
        given = sum(int.from_bytes(path.read_bytes(), "little") for path in self.folder.glob("*.count"))
        bad: dict[str, BadRecord] = {}
        never_given = 0
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("]"):  # not broken off by a kill
                    *words, was_given = json.loads(line)
                    fault = BadRecord(*words)
                    never_given += fault.record not in bad and not was_given
                    bad.setdefault(fault.record, fault)
        return LoadReport(total=given + never_given, bad=tuple(bad.values()), renamed=())


class SkippedInBatches:
    """Notes a record that a collator skips; each worker has a copy, the notes are shared by all workers and ranks."""

    def __init__(self, notes: SkippedRecords, rank: int) -> None:
        self.notes = notes
        self.rank = rank

    def __call__(self, fault: BadRecord) -> None:
        """Note a record."""
        notes = self.notes.reader(reader_number(self.rank, 1)[0])
        notes.add(fault, given=True)
        notes.close()


def reader_number(rank: int, ranks: int) -> tuple[int, int]:
    """Index of this process, a rank or a loader worker of it, among all readers of `ranks` ranks, and their number."""
    info = get_worker_info()
    worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
    return rank * workers + worker, ranks * workers


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, in the process that made it: a worker has a copy of everything."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class SkippedRecordsWriter:
    """One reader's files, written unbuffered, so that they survive a worker that is killed."""

    def __init__(self, stem: Path) -> None:
        self._bad = stem.with_suffix(".jsonl").open("a", encoding="utf-8", buffering=1)
        self._count = stem.with_suffix(".count").open("wb", buffering=0)
        self._named: set[str] = set()
        self._given = 0

    def count(self) -> None:
        """Count a record that was yielded."""
        self._given += 1
        self._count.seek(0)
        self._count.write(self._given.to_bytes(8, "little"))

    def add(self, fault: BadRecord, given: bool = False) -> bool:
        """Note a bad record.

        Args:
            fault: with its name.
            given: it was yielded and counted, and only its batch showed that it is bad.

        Returns:
            True the first time that this reader notes it.
        """
        if fault.record in self._named:
            return False
        self._named.add(fault.record)
        self._bad.write("\n" + json.dumps([fault.reason, fault.message, fault.record, given]) + "\n")
        return True

    def close(self) -> None:
        """Close the files."""
        self._bad.close()
        self._count.close()
