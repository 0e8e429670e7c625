"""A part of a file, read when it is asked for: a member of an archive that nobody unpacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contralign.data.records.bad_record import BadRecord


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A part of a file, such as a member of a tar archive; read when it is asked for.

    Attributes:
        path: the file.
        offset: where the part begins, in bytes.
        size: bytes of the part.
        name: of the part.
    """

    path: Path
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """All of it.

        Raises:
            BadRecord: `cut_off`, the file ends before the part does.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise BadRecord("cut_off", f"{self.name!r} of {self.path.name} ends {self.size - len(content)} bytes early")
        return content
