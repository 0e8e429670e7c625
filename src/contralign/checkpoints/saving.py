"""`atomic_write` for a run: a disk that refuses is a `CannotWrite`, which says how much is free."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from contralign.atomic_write import atomic_write, size_of
from contralign.checkpoints.run_errors import CannotWrite

_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos")
"""What torch.save says in a RuntimeError when the disk refuses."""


@contextmanager
def safe_write(place: Path) -> Iterator[Path]:
    """See `atomic_write`.

    Raises:
        CannotWrite: the disk refuses.
    """
    needed = 0
    try:
        with atomic_write(place) as partial:
            try:
                yield partial
            finally:
                needed = size_of(partial)
    except Exception as error:
        if is_write_failure(error):
            raise CannotWrite(write_failure_message(place, error, at_least=needed)) from error
        raise


def write_text(place: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        CannotWrite: see `safe_write`.
    """
    with safe_write(place) as partial:
        partial.write_text(text, encoding="utf-8")


def is_write_failure(error: BaseException) -> bool:
    """True for what Python, safetensors and torch raise when the disk refuses a write."""
    if isinstance(error, CannotWrite | FileNotFoundError):
        return False
    if isinstance(error, SafetensorError):
        return "os error" in str(error)
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _TORCH_WRITER)
    return isinstance(error, OSError)


def write_failure_message(place: Path, error: BaseException, at_least: int) -> str:
    """One sentence: what could not be written, of `at_least` so many bytes, why, and how much space is free."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    takes, left = format_bytes(at_least), format_bytes(free)
    return f"{place} could not be written: {cause} (it takes {takes} or more, {left} are free there)"


def format_bytes(size: float) -> str:
    """A number of bytes as text: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
