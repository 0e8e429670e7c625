"""contralign: train vision-language models to look at the image (CAL, NeurIPS 2024)."""

from typing import TYPE_CHECKING

from contralign.public import lazy

if TYPE_CHECKING:
    from contralign.batch import VLBatch
    from contralign.checkpoints.stopping import StopCallback, StopRequest
    from contralign.core.delta import contrast_delta
    from contralign.core.loss import cal_loss
    from contralign.core.weights import cal_weights
    from contralign.reading import SampleReader
    from contralign.run.learning.trainable_parts import freeze_unread_layers
    from contralign.training.alignment import ContrastiveAlignment
    from contralign.training.config import CalConfig
    from contralign.training.trainer import CALTrainer, with_cal

__version__ = "0.1.0"

__all__ = [
    "CALTrainer",
    "CalConfig",
    "ContrastiveAlignment",
    "SampleReader",
    "StopCallback",
    "StopRequest",
    "VLBatch",
    "cal_loss",
    "cal_weights",
    "contrast_delta",
    "freeze_unread_layers",
    "with_cal",
]

__getattr__, __dir__ = lazy(__name__)
