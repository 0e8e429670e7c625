"""Local workers: as many processes of one thread as there are cores, each the same command with --worker."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from contralign.ablation.claims import Claims
from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import PlannedCell

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
Progress = Callable[[Counter[str]], None]


def run_workers(
    directory: AblationDirectory,
    planned: Sequence[PlannedCell],
    words: Sequence[str],
    count: int,
    progress: Progress,
    poll_seconds: float = 1.0,
) -> None:
    """Start workers and wait until all have ended; what failed before is tried again.

    Args:
        directory: of the ablation, created.
        planned: its cells.
        words: the command line of a worker after `contralign`.
        count: workers.
        progress: called with the number of cells done, failed and open, again and again.
        poll_seconds: how often.

    Raises:
        RuntimeError: workers ended though cells are open, such as by a lack of memory.
    """
    directory.forget_errors(planned)
    if not _is_worked_in(directory):
        directory.clean_work()
    needed = min(count, len({one.key for one in planned if directory.state(one) == "open"}))
    started = {number: _start(directory, words, number) for number in range(needed)}
    try:
        while any(process.poll() is None for process in started.values()):
            progress(states(directory, planned))
            time.sleep(poll_seconds)
    finally:
        for process in started.values():
            if process.poll() is None:
                process.terminate()
        for process in started.values():
            process.wait()
    progress(states(directory, planned))
    died = {number: process.returncode for number, process in started.items() if process.returncode}
    if died and states(directory, planned)["open"]:
        raise RuntimeError(_why(directory, died))
    own = directory.store == directory.path
    if own and not states(directory, planned)["open"] and not _is_worked_in(directory):
        shutil.rmtree(directory.work, ignore_errors=True)
        shutil.rmtree(directory.claims, ignore_errors=True)


def _is_worked_in(directory: AblationDirectory) -> bool:
    """True where a living worker, of this or of another ablation in the same folder, holds a claim."""
    claims = Claims(directory.claims)
    return any(claims.is_held(place.name) for place in directory.claims.iterdir() if not place.name.startswith("."))


def states(directory: AblationDirectory, planned: Sequence[PlannedCell]) -> Counter[str]:
    """How many cells are done, failed and open."""
    return Counter(directory.state(one) for one in planned)


def _start(directory: AblationDirectory, words: Sequence[str], number: int) -> subprocess.Popen[bytes]:
    with (directory.logs / f"worker-{number}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "contralign", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD},
        )


def _why(directory: AblationDirectory, died: dict[int, int]) -> str:
    number, code = next(iter(died.items()))
    log = directory.logs / f"worker-{number}.log"
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    return f"worker {number} ended with {code} before all cells were done; the end of {log}:\n" + "\n".join(tail)
