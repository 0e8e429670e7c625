"""The end of a command that may run on several ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def leave_process_group() -> None:
    """Take this rank's process group down, if it has one.

    Left to the interpreter's exit, gloo's threads now and then outlive what they belong to, and a run that is complete
    is aborted. Ranks do not wait for each other here: the main one may have evaluated for hours.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()


@contextmanager
def hard_exit() -> Iterator[None]:
    """On one rank of several, end the process when the block ends, without the interpreter's own end.

    What DDP keeps alive until then (its reducer holds the process group) joins gloo's threads while it holds the
    interpreter's lock, and a thread that waits for that lock to let go of a tensor is never joined: a rank that had
    said its last word hung there (docs/log.md). Nothing is left to do: files are closed, workers watch their parent.
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
