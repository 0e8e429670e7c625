"""All weightings by name, and how one is made of plain settings. Importing this imports none of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from contralign.nearest import one_of
from contralign.plugins import Registry

if TYPE_CHECKING:
    from contralign.weighting.base import Weighting

WEIGHTINGS = Registry(
    "contralign.weightings",
    "weighting",
    {
        "cal": "contralign.weighting.cal:Cal",
        "uniform": "contralign.weighting.uniform:Uniform",
        "quantile": "contralign.weighting.quantile:Quantile",
        "prior": "contralign.weighting.prior:Prior",
        "vig": "contralign.weighting.vig:Vig",
        "tpo": "contralign.weighting.tpo:Tpo",
        "vppo": "contralign.weighting.vppo:Vppo",
        "pgpo": "contralign.weighting.pgpo:Pgpo",
        "rho1": "contralign.weighting.rho1:Rho1",
        "dft": "contralign.weighting.dft:Dft",
    },
)
"""Name -> class, called with its settings by keyword."""


def check_name(name: str) -> None:
    """Refuse a name that no weighting has; none is imported.

    Raises:
        ValueError: with all names.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"weighting={name!r}: {one_of(str(name), WEIGHTINGS)}")


def build_weighting(name: str, options: Mapping[str, Any], common: Mapping[str, tuple[Any, Any]]) -> Weighting:
    """The weighting of a name.

    Args:
        name: of `WEIGHTINGS`.
        options: keyword settings that are its own.
        common: settings that several weightings share, by name: their value, and the value that says nothing. A
            weighting that has such a setting takes the value.

    Raises:
        ValueError: an unknown name, a setting that it does not have, or one out of range.
    """
    from contralign.weighting.base import check_weighting

    check_name(name)
    kind = WEIGHTINGS[name]
    known = list(inspect.signature(kind).parameters)
    for setting, (value, unset) in common.items():
        if setting not in known and value != unset:
            raise ValueError(f"{setting}={value!r} has no effect with weighting={name!r}: leave it out")
    own = [setting for setting in known if setting not in common]
    for setting in options:
        if setting in common and setting in known:
            raise ValueError(f"options.{setting}: {setting} is a setting of its own; put it beside options")
        if setting not in own:
            raise ValueError(
                f"options.{setting} has no effect with weighting={name!r}, whose options are {', '.join(own) or 'none'}"
            )
    return check_weighting(kind(**{setting: common[setting][0] for setting in known if setting in common}, **options))
