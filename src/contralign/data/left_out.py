"""What a stream left out, written down where its workers and ranks can all write and one process can read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from contralign.data.bad_record import BadRecord
from contralign.data.mixture import LoadReport


class LeftOut:
    """A folder with two files a reader: how many good records it gave, and which bad ones it left out.

    Args:
        folder: where; None is a new one that goes when this object goes.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="contralign-stream-"))
            weakref.finalize(self, _remove, folder, os.getpid())
        self.folder = folder

    def reader(self, number: int) -> LeftOutByReader:
        """The notes of one reader; it counts anew, and what it left out before an interruption stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return LeftOutByReader(self.folder / f"{number:05d}")

    def report(self) -> LoadReport:
        """What all readers noted: good records as often as they were given, and every bad one once."""
        good = sum(int.from_bytes(path.read_bytes(), "little") for path in self.folder.glob("*.count"))
        bad: dict[str, BadRecord] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("]"):  # not broken off by a kill
                    fault = BadRecord(*json.loads(line))
                    bad.setdefault(fault.record, fault)
        return LoadReport(total=good + len(bad), bad=tuple(bad.values()), renamed=())


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, in the process that made it: a worker has a copy of everything."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class LeftOutByReader:
    """Notes that are on the disk at once, so that they outlive a worker that is killed."""

    def __init__(self, stem: Path) -> None:
        self._bad = stem.with_suffix(".jsonl").open("a", encoding="utf-8", buffering=1)
        self._count = stem.with_suffix(".count").open("wb", buffering=0)
        self._named: set[str] = set()
        self._good = 0

    def count(self, records: int = 1) -> None:
        """Another good record; -1 takes back one that turned out to be bad."""
        self._good += records
        self._count.seek(0)
        self._count.write(self._good.to_bytes(8, "little"))

    def add(self, fault: BadRecord) -> bool:
        """Note a bad record.

        Returns:
            True the first time that this reader meets it.
        """
        if fault.record in self._named:
            return False
        self._named.add(fault.record)
        self._bad.write("\n" + json.dumps([fault.reason, fault.message, fault.record]) + "\n")
        return True

    def close(self) -> None:
        """Close the files."""
        self._bad.close()
        self._count.close()
