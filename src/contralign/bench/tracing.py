"""Context managers around a measured step: garbage collection paused, torch's profiler without its log lines."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.profiler import profile


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect garbage before the block and none inside it: it takes time, and releases memory of earlier steps."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Set aside what is alive for the length of the block, so that collecting garbage in it is quick."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def quiet_profile(**settings: Any) -> Iterator[Any]:
    """`torch.profiler.profile(**settings)` around a block, without the lines that its tracer writes to stderr."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(**settings) as trace:
        yield trace
