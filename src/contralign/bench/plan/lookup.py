"""Look a name up in a dict, and help where it is misspelt."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def by_name(known: Mapping[str, T], name: str, what: str) -> T:
    """The entry called `name`.

    Raises:
        ValueError: no such entry; names the closest ones and all that are known.
    """
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise ValueError(f"{what} {name!r} is unknown: {hint}known are {', '.join(known)}")
