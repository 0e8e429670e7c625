"""Settings by name that cannot be changed once given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Options(Mapping[str, Any]):
    """A mapping without a way to change it: hashable where its values are, equal to any mapping with the same items.

    Args:
        items: copied; lists become tuples.
    """

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {key: tuple(value) if isinstance(value, list) else value for key, value in (items or {}).items()}

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)
