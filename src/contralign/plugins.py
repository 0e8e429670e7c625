"""Names and what they stand for, imported when asked for: what contralign has itself, and what packages add.

A package adds names by entry points, in its pyproject.toml:

```toml
[project.entry-points."contralign.weightings"]
gaze = "gaze_package.weighting:Gaze"
```
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from contralign.nearest import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = tuple(f"contralign.{kind}" for kind in ("weightings", "contrasts", "families", "sets", "evaluations"))


class PluginError(ValueError):
    """A package's name that cannot be served; the message names the package, and all other names go on working."""


class Registry:
    """Names of one kind: built-in ones, and entry points of a group. Reading names imports no plug-in.

    Args:
        group: of the entry points; one of `GROUPS`.
        kind: what a name stands for, for messages.
        built_in: name -> "module:attribute".
    """

    def __init__(self, group: str, kind: str, built_in: Mapping[str, str]) -> None:
        self.group, self.kind, self.built_in = group, kind, built_in

    def names(self) -> list[str]:
        """All names: the built-in ones, then those of packages in alphabetical order."""
        return list(dict.fromkeys([*self.built_in, *sorted(self._added())]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._added()

    def __getitem__(self, name: str) -> Any:
        return self.load(name)

    def load(self, name: str) -> Any:
        """What a name stands for.

        Raises:
            PluginError: the package that adds the name fails when it is imported, or two claim the name.
            ValueError: no such name.
        """
        claims = self._added().get(name, [])
        if len(claims) + (name in self.built_in) > 1:
            owners = [*(["contralign itself"] if name in self.built_in else []), *map(_described, claims)]
            raise PluginError(
                f"{self.kind} {name!r} is claimed by {' and by '.join(owners)}: uninstall one, or rename the entry "
                f"point of {self.group}"
            )
        if claims:
            return self._import(claims[0])
        if name not in self.built_in:
            raise ValueError(f"no {self.kind} {name!r}; {nearest(str(name), self)}")
        module, attribute = self.built_in[name].split(":")
        return getattr(importlib.import_module(module), attribute)

    def _added(self) -> dict[str, list[EntryPoint]]:
        return _entry_points()[self.group]

    def _import(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.kind} {point.name!r} is added by {_described(point)}, which fails when it is imported: "
                f"{type(error).__name__}: {error}. Mend or uninstall that package; every other name works without it"
            ) from error


def package_adding(group: str, name: str) -> str | None:
    """The package and version that add a name to a group; None for what contralign has itself."""
    return next((_package(point) for point in _entry_points()[group].get(name, [])), None)


def package_of(kind: type) -> str | None:
    """The package and version that a class comes from, where that package adds names to contralign; None elsewhere."""
    root = kind.__module__.split(".")[0]
    points = (point for names in _entry_points().values() for claims in names.values() for point in claims)
    return next((_package(point) for point in points if point.value.split(":")[0].split(".")[0] == root), None)


@functools.cache
def _entry_points() -> dict[str, dict[str, list[EntryPoint]]]:
    """Group -> name -> who claims it; read once, since looking through all packages takes a tenth of a second."""
    import importlib.metadata

    found, everything = {}, importlib.metadata.entry_points()
    for group in GROUPS:
        claims: dict[str, list[EntryPoint]] = found.setdefault(group, {})
        for point in everything.select(group=group):
            claims.setdefault(point.name, []).append(point)
    return found


def _package(point: EntryPoint) -> str:
    return "a package without a name" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _described(point: EntryPoint) -> str:
    return f"{_package(point)} (entry point {point.group}: {point.name} = {point.value})"
