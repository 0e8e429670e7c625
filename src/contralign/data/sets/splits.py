"""What the built-in sets share: splits by a hash, checked choices, and draws of a limited number."""

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

T = TypeVar("T")
Split = Literal["train", "heldout"]

HELDOUT_SHARE = 5
"""One in so many texts is held out."""


def split_of(text: str) -> Split:
    """The split of all samples with this name or sentence: its CRC-32 decides."""
    return "heldout" if zlib.crc32(text.encode()) % HELDOUT_SHARE == 0 else "train"


def check_choice(name: str, value: object, literal: Any) -> None:
    """Refuse a value that a `Literal` type does not list.

    Raises:
        ValueError: names the choices.
    """
    if value not in get_args(literal):
        raise ValueError(f"{name}={value!r}: wanted one of {', '.join(get_args(literal))}")


def draw_limited(
    found: Sequence[T], limit: int | None, seed: int, source: str, split: str, what: str = "pictures"
) -> Sequence[T]:
    """`limit` of what was found, drawn without replacement and shuffled by the seed; None is all, in order.

    Raises:
        ValueError: there are not so many.
    """
    if limit is None:
        return found
    if not 0 <= limit <= len(found):
        raise ValueError(f"limit={limit}: {source} {split} has 0 to {len(found)} {what} to give")
    return random.Random(f"{source} {seed} {split}").sample(found, limit)


def of_groups(found: Sequence[T], group: Callable[[T], str], wanted: Sequence[str] | None, name: str) -> Sequence[T]:
    """Those in one of the wanted groups; None is all.

    Raises:
        ValueError: no group, or one that nothing is in.
    """
    if wanted is None:
        return found
    known = sorted({group(one) for one in found})
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or any(each not in known for each in names):
        raise ValueError(f"{name}={names}: wanted one or more of {', '.join(known)}")
    return [one for one in found if group(one) in names]
