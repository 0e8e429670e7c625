"""All weightings by name, and how one is made of plain settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from contralign.weighting.base import Weighting
from contralign.weighting.cal import Cal
from contralign.weighting.dft import Dft
from contralign.weighting.pgpo import Pgpo
from contralign.weighting.prior import Prior
from contralign.weighting.quantile import Quantile
from contralign.weighting.rho1 import Rho1
from contralign.weighting.tpo import Tpo
from contralign.weighting.uniform import Uniform
from contralign.weighting.vig import Vig
from contralign.weighting.vppo import Vppo

WEIGHTINGS: dict[str, type[Weighting]] = {
    "cal": Cal,
    "uniform": Uniform,
    "quantile": Quantile,
    "prior": Prior,
    "vig": Vig,
    "tpo": Tpo,
    "vppo": Vppo,
    "pgpo": Pgpo,
    "rho1": Rho1,
    "dft": Dft,
}


def build_weighting(name: str, options: Mapping[str, Any], common: Mapping[str, tuple[Any, Any]]) -> Weighting:
    """The weighting of a name.

    Args:
        name: key of `WEIGHTINGS`.
        options: keyword settings that are its own.
        common: settings that several weightings share, by name: their value, and the value that says nothing. A
            weighting that has such a setting takes the value.

    Raises:
        ValueError: an unknown name, a setting that it does not have, or one out of range.
    """
    if name not in WEIGHTINGS:
        raise ValueError(f"weighting={name!r}: wanted one of {', '.join(WEIGHTINGS)}")
    known = [item.name for item in fields(WEIGHTINGS[name])]  # type: ignore[arg-type]
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
    return WEIGHTINGS[name](**{setting: common[setting][0] for setting in known if setting in common}, **options)
