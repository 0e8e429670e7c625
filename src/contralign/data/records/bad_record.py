"""The error for a record that cannot be trained on: a reason to count by, and a message that helps to mend it."""

from __future__ import annotations

import reprlib

_SHOWN = 80
"""Most characters of a value in a message."""


class BadRecord(ValueError):
    """A record that is refused.

    Attributes:
        reason: a short slug, such as "missing_picture"; reports count by it.
        message: what is wrong and what was wanted.
        record: name of the record (file and line, or id); "" until the loader sets it.
    """

    def __init__(self, reason: str, message: str, record: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.record = record

    def __str__(self) -> str:
        where = f"{self.record}: " if self.record else ""
        return f"{where}{self.message} [{self.reason}]"

    def __reduce__(self) -> tuple[type[BadRecord], tuple[str, str, str]]:
        # An exception that crosses a DataLoader worker is rebuilt from these.
        return BadRecord, (self.reason, self.message, self.record)

    def named(self, record: str) -> BadRecord:
        """A copy with the record's name."""
        return BadRecord(self.reason, self.message, record)


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def short(value: object) -> str:
    """A user's value for a message, whatever it is and however long."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    text = repr(value[:_SHOWN]) if isinstance(value, str) else reprlib.repr(value)
    cut = len(text) > _SHOWN + 2 or (isinstance(value, str) and len(value) > _SHOWN)
    return f"{text[:_SHOWN]}…" if cut else text
