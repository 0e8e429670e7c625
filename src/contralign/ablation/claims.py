"""Who does what, among processes that share nothing but a folder: a claim is a file that only one can create.

A claim says who holds it, and its holder touches it while at work. One whose holder is gone, because the process on
this machine ended or the file was not touched for minutes, is taken over. All times are the folder's own (a file is
touched and its time read back), so that the clocks of machines on a shared disk do not matter.

Two processes could still do one thing twice, where a holder was only slow. That costs time and harms nothing: what
they make is equal, and is renamed into place in one go.
"""

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

STALE_SECONDS = 300.0
BEAT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim.

    Attributes:
        host: its machine.
        pid: its process there.
        token: of this very claim.
    """

    host: str
    pid: int
    token: str


class Claims:
    """The claims of one folder.

    Args:
        folder: made where it is missing.
        stale_seconds: a claim that was not touched for so long belongs to nobody.
        beat_seconds: how often a holder touches its claim.
    """

    def __init__(self, folder: Path, stale_seconds: float = STALE_SECONDS, beat_seconds: float = BEAT_SECONDS) -> None:
        self.folder = folder
        self.stale_seconds = stale_seconds
        self.beat_seconds = beat_seconds
        folder.mkdir(parents=True, exist_ok=True)

    def is_held(self, key: str) -> bool:
        """True where a living process has claimed `key`."""
        return (self.folder / key).exists() and not self._is_stale(key)

    @contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Claim `key` for the length of the block; yields whether that worked."""
        mine = self._take(key)
        if mine is None:
            yield False
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(key, stop), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            stop.set()
            beat.join()
            if self._holder(key) == mine:
                (self.folder / key).unlink(missing_ok=True)

    def _take(self, key: str) -> Holder | None:
        if (self.folder / key).exists() and not self._free_if_stale(key):
            return None
        mine = Holder(host=socket.gethostname(), pid=os.getpid(), token=uuid.uuid4().hex)
        try:
            descriptor = os.open(self.folder / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return None
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(mine), file)
        return mine

    def _free_if_stale(self, key: str) -> bool:
        """Take a stale claim out of the way; one that another process has just taken over is put back."""
        held_by = self._holder(key)
        if not self._is_stale(key):
            return False
        aside = self.folder / f".{key}.{uuid.uuid4().hex}"
        try:
            (self.folder / key).rename(aside)
        except FileNotFoundError:
            return False
        if _read_holder(aside) == held_by:
            aside.unlink()
            return True
        with contextlib.suppress(FileExistsError):
            os.link(aside, self.folder / key)
        aside.unlink()
        return False

    def _is_stale(self, key: str) -> bool:
        holder = self._holder(key)
        if holder is not None and holder.host == socket.gethostname() and not _is_alive(holder.pid):
            return True
        try:
            age = self._now() - (self.folder / key).stat().st_mtime
        except FileNotFoundError:
            return True
        return age > self.stale_seconds

    def _now(self) -> float:
        """The time as the folder's file system has it."""
        clock = self.folder / f".clock-{socket.gethostname()}-{os.getpid()}"
        clock.touch()
        try:
            return clock.stat().st_mtime
        finally:
            clock.unlink(missing_ok=True)

    def _holder(self, key: str) -> Holder | None:
        return _read_holder(self.folder / key)

    def _beat(self, key: str, stop: threading.Event) -> None:
        while not stop.wait(self.beat_seconds):
            try:
                os.utime(self.folder / key)
            except FileNotFoundError:
                return


def _read_holder(path: Path) -> Holder | None:
    """Who wrote a claim; None where it is gone or only half written."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
