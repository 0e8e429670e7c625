"""Data packages that are unpacked on this machine, and where they are looked for. Nothing is downloaded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class MissingPackage(ValueError):
    """A data package that was not found; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPackage:
    """A package of data and its usual places.

    Attributes:
        name: of the package in its registry.
        variable: environment variable that may hold its folder.
        places: folders to look in, in this order; ``~`` is the home folder.
        wanted: files or folders that it must hold.
        recipe: commands that fetch and unpack it, for the message.
    """

    name: str
    variable: str
    places: Sequence[str]
    wanted: Sequence[str]
    recipe: str

    def folder(self, root: str | Path | None = None) -> Path:
        """Where the package lies: `root`, else what the environment variable names, else the first place that has it.

        Raises:
            MissingPackage: `root` or the variable names a folder that lacks it, or no place has it.
        """
        told = root or os.environ.get(self.variable)
        tried = [Path(place).expanduser() for place in ([told] if told else self.places)]
        for folder in tried:
            if all((folder / name).exists() for name in self.wanted):
                return folder
        raise MissingPackage(
            f"{self.name} is not in {', '.join(map(str, tried))}: wanted a folder with {' and '.join(self.wanted)}. "
            f"Get it with\n{self.recipe}\nor give its folder as `root` or in ${self.variable}"
        )
