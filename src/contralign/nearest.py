"""The known name that somebody meant: how a message about an unknown one ends."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name closest to `name`, and all known names."""
    known = list(known)
    names = ", ".join(known) or "none"
    close = _closest(name, known)
    return f"did you mean {close!r}? Known: {names}" if close else f"known: {names}"


def one_of(name: str, known: Iterable[str]) -> str:
    """The same for a choice: all known names, and the one closest to `name`."""
    known = list(known)
    close = _closest(name, known)
    return f"wanted one of {', '.join(known)}" + (f"; did you mean {close!r}?" if close else "")


def _closest(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)
