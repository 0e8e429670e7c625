"""A member of an archive that is not unpacked: a range of bytes, read on demand."""

from dataclasses import dataclass
from pathlib import Path

from contralign.data.records.bad_record import BadRecord


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A range of bytes of a file, such as a member of a tar archive.

    Attributes:
        path: the file.
        offset: first byte.
        size: number of bytes.
        name: of the member.
    """

    path: Path
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """All bytes of the member.

        Raises:
            BadRecord: `cut_off`, the file ends before the member does.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise BadRecord("cut_off", f"{self.name!r} of {self.path.name} ends {self.size - len(content)} bytes early")
        return content
