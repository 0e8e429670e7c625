"""The projector file that the original trainers write beside or in place of a whole checkpoint."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from contralign.models.convert.checkpoint import read_tensors

logger = logging.getLogger(__name__)

PROJECTOR_FILE = "mm_projector.bin"


def with_projector(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Adds what mm_projector.bin holds and the shards do not; the shards, trained last, win."""
    if not (path / PROJECTOR_FILE).is_file():
        return state
    projector = read_tensors(path / PROJECTOR_FILE)
    differing = [
        name for name in projector if name in state and not torch.equal(projector[name].float(), state[name].float())
    ]
    if differing:
        logger.warning("%s: mm_projector.bin is not used, the shards differ from it: %s", path, ", ".join(differing))
    return projector | state
