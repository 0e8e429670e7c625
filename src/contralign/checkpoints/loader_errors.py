"""Errors inside loader processes, carried to the training process as they are, and the end of those processes.

torch raises an error of a worker again as its class called with a text, in which the record and the reason are gone.
"""

from __future__ import annotations

import gc
import logging
import pickle
from collections.abc import Callable, Iterator
from traceback import walk_tb
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

logger = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds that a loader process gets to end by itself."""


class FailedLoad:
    """Stands in a worker's batch, or for a whole batch, for what could not be loaded.

    Attributes:
        error: what was raised in the worker.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class CarryingStream(IterableDataset[Any]):
    """A stream whose error in a worker is its last sample."""

    def __init__(self, stream: IterableDataset[Any]) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.stream
        except Exception as error:
            yield carried(error)


def collate_or_carry(collate: Callable[[Any], Any], samples: Any) -> Any:
    """The batch; in a worker, a `FailedLoad` where a sample is one or the batch cannot be made."""
    for sample in samples:
        if isinstance(sample, FailedLoad):
            return sample
    try:
        return collate(samples)
    except Exception as error:
        return carried(error)


def carried(error: Exception) -> FailedLoad:
    """An error of ours in a worker, for the training process; any other is raised, and torch names its traceback.

    Call it where the error is handled.
    """
    if get_worker_info() is None or not _is_ours(error) or not _survives(error):
        raise error
    return FailedLoad(error)


def raising(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; what was carried is raised."""
    for batch in batches:
        if isinstance(batch, FailedLoad):
            raise batch.error
        yield batch


def killed_workers() -> list[int]:
    """Exit codes of loader processes that ended otherwise than they should: -9 is SIGKILL."""
    codes = [worker.exitcode for worker in _workers(_iterators())]
    return [code for code in codes if code not in (None, 0)]


def end_workers() -> None:
    """End all loader processes of this process; one that does not end by itself is killed.

    multiprocessing would send them one SIGTERM at exit, which they ignore, and wait for them for ever.
    """
    iterators = _iterators()
    workers = _workers(iterators)
    for loading in iterators:
        try:
            loading._shutdown_workers()
        except Exception as error:
            logger.debug("a loader could not be shut down: %s", error)
    for worker in workers:
        worker.join(_PATIENCE)
        if worker.is_alive():
            worker.kill()
            worker.join(_PATIENCE)


def _iterators() -> list[Any]:
    # By type(): isinstance would ask every object in memory for its __class__.
    return [each for each in gc.get_objects() if type(each) is _MultiProcessingDataLoaderIter]


def _workers(iterators: list[Any]) -> list[Any]:
    return [worker for loading in iterators for worker in getattr(loading, "_workers", ())]


def _is_ours(error: Exception) -> bool:
    """True for what contralign itself has raised, and so says all that there is to say."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].partition(".")[0] == "contralign"


def _survives(error: Exception) -> bool:
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return type(again) is type(error) and str(again) == str(error)
