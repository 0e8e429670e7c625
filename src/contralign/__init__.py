"""contralign: train vision-language models to look at the image (CAL, NeurIPS 2024)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contralign.core.delta import contrast_delta
    from contralign.core.loss import cal_loss
    from contralign.core.weights import cal_weights
    from contralign.training.alignment import ContrastiveAlignment
    from contralign.training.config import CalConfig
    from contralign.training.trainer import CALTrainer, with_cal

__version__ = "0.1.0"

__all__ = ["CALTrainer", "CalConfig", "ContrastiveAlignment", "cal_loss", "cal_weights", "contrast_delta", "with_cal"]

_HOMES = {
    "CALTrainer": "contralign.training.trainer",
    "CalConfig": "contralign.training.config",
    "ContrastiveAlignment": "contralign.training.alignment",
    "cal_loss": "contralign.core.loss",
    "cal_weights": "contralign.core.weights",
    "contrast_delta": "contralign.core.delta",
    "with_cal": "contralign.training.trainer",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: the mathematics alone needs only torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'contralign' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
