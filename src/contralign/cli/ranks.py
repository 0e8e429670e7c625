"""Ending a command that may run on several ranks."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def leave_process_group() -> None:
    """Destroy this rank's process group, if it has one.

    At the interpreter's exit gloo's threads sometimes outlive the group, and abort a run that is complete. Ranks do not
    wait for each other here: the main one may have evaluated for hours.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()


@contextmanager
def hard_exit() -> Iterator[None]:
    """On one rank of several, end the process by `os._exit` after the block, without the interpreter's shutdown.

    At shutdown DDP's reducer joins gloo's threads while it holds the GIL; a thread that waits for the GIL to free a
    tensor is never joined, and a rank that was done hung there (docs/log.md). Nothing is lost: files are closed, and
    workers watch their parent.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    code: int | str | None = 0
    try:
        yield
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)  # torch's says which rank it is
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
