"""Errors that stop a run although its recipe is right; each message says what to type next.

None of them loses anything: files in the run directory are complete, and the last checkpoint is there. Nothing heavy
is imported here, since the command line looks at every error.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

HOW_TO_RESUME = "the same command with --resume goes on from there"

_GONE = re.compile(
    "Connection (closed by peer|reset by peer|refused)|Broken pipe|closed the connection|remote process exited|"
    "Watchdog caught collective operation timeout|Timed out waiting|timed out|DistNetworkError"
)


class RunError(RuntimeError):
    """A run that has to stop, through no mistake of the user.

    Attributes:
        exit_code: of the command line.
    """

    exit_code: ClassVar[int] = 3


class NotFinite(RunError):
    """The loss, the gradient or a weight is NaN or infinite."""


class CannotWrite(RunError):
    """The disk refuses to take what has to be written."""


class DamagedCheckpoint(RunError):
    """The checkpoint that was asked for by name is not whole."""


class WorkerDied(RunError):
    """A process that loads data is gone."""


class RankDied(RunError):
    """Another process of the same training is gone."""


class Stopped(RunError):
    """The run was asked to stop (Ctrl-C, SIGTERM, SIGUSR1) and did, with a checkpoint where it was training.

    The exit code is EX_TEMPFAIL of sysexits.h: try again. A batch script may requeue the job on it.
    """

    exit_code: ClassVar[int] = 75


def as_run_error(
    error: Exception, ranks: int, step: int, checkpoint: str, killed: Sequence[int] = ()
) -> RunError | None:
    """The `RunError` behind an error of torch (a dead worker or rank), with advice; None if it is something else.

    Args:
        error: of torch.
        ranks: number of them.
        step: the next one.
        checkpoint: a sentence about the last one, for the message.
        killed: exit codes of loader processes that are dead.
    """
    said = str(error)
    first_line = said.strip().splitlines()[0] if said.strip() else type(error).__name__
    if killed and type(error) is RuntimeError:
        return WorkerDied(
            f"step {step}: a process that loads data died: {first_line}\n"
            "The system kills a process when memory runs out (`dmesg | tail` says so); shared memory may be full, too "
            "(`df /dev/shm`). Fewer workers take less: trainer.dataloader_num_workers=0 takes none and may be changed "
            f"when a run goes on. {checkpoint}"
        )
    if ranks > 1 and _GONE.search(f"{type(error).__name__}: {said}"):
        return RankDied(
            f"step {step}: another process of this training is gone: {first_line}\n"
            "What it said itself, above or in its own log, is the cause; one that said nothing was killed, mostly for "
            f"memory. {checkpoint}"
        )
    return None
