"""How much each label token counts: one rule a file, each a function from what a step measures to weights."""

from typing import TYPE_CHECKING

from contralign.public import lazy

if TYPE_CHECKING:
    from contralign.weighting.base import TokenReadings, Weighting
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

__all__ = [
    "Cal",
    "Dft",
    "Pgpo",
    "Prior",
    "Quantile",
    "Rho1",
    "TokenReadings",
    "Tpo",
    "Uniform",
    "Vig",
    "Vppo",
    "Weighting",
]

__getattr__, __dir__ = lazy(__name__)
