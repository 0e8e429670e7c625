"""Files and folders that bear their name only once they are whole and on the disk, and what to say when they cannot be.

Whatever is written here lies under another name first, is flushed to the disk, and is then renamed, which a file system
does at once or not at all. A process that is killed leaves the old content, or none, and never half of the new.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from contralign.checkpoints.run_errors import CannotWrite
from contralign.data.to_disk import to_disk

_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos")
"""What torch.save says in a RuntimeError when the disk refuses."""


@contextmanager
def safe_write(place: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which becomes `place` when the block ends and is removed when it fails.

    Args:
        place: a file, replaced where it is there; or a folder, which must not be there yet or be empty.

    Raises:
        CannotWrite: the disk refuses; the message says how much is free.
    """
    partial = partial_path(place)
    remove(partial)
    try:
        yield partial
        _let_read(partial)
        sync(partial)
        os.replace(partial, place)
    except Exception as error:
        needed = size_of(partial)
        remove(partial)
        if is_write_failure(error):
            raise CannotWrite(write_failure_message(place, error, at_least=needed)) from error
        raise
    except BaseException:
        remove(partial)
        raise
    sync_folder(place.parent)


def write_text(place: Path, text: str) -> None:
    """Write a text file that is never seen half written.

    Raises:
        CannotWrite: see `safe_write`.
    """
    with safe_write(place) as partial:
        partial.write_text(text, encoding="utf-8")


def partial_path(place: Path) -> Path:
    """Where a file or a folder lies while it is being written."""
    return place.with_name(f".{place.name}.writing")


def is_partial(path: Path) -> bool:
    """True for what `safe_write` has left when it was killed."""
    return path.name.startswith(".") and path.name.endswith(".writing")


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or a folder and all that is in it, from the system's memory to the disk."""
    if not path.is_dir():
        to_disk(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            to_disk(Path(folder, name))
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system has such a thing."""
    with contextlib.suppress(OSError):
        to_disk(folder)


def is_write_failure(error: BaseException) -> bool:
    """True for what Python, safetensors and torch raise when the disk refuses to take more."""
    if isinstance(error, CannotWrite | FileNotFoundError):
        return False
    if isinstance(error, SafetensorError):
        return "os error" in str(error)
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _TORCH_WRITER)
    return isinstance(error, OSError)


def write_failure_message(place: Path, error: BaseException, at_least: int) -> str:
    """One sentence: what could not be written, why, and how much is free.

    Args:
        place: where it should have come to lie.
        error: what was raised.
        at_least: bytes that it is known to take.
    """
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{place} could not be written: {cause} (it takes {amount(at_least)} or more, {amount(free)} are free there)"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names)


def amount(size: float) -> str:
    """A number of bytes for people: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _let_read(path: Path) -> None:
    """As readable as the umask says: safetensors makes files that nobody else may read."""
    allowed = ~_umask()
    for folder, _, names in os.walk(path):
        for name in names:
            Path(folder, name).chmod(0o666 & allowed)
    if path.is_file():
        path.chmod(0o666 & allowed)


def _umask() -> int:
    """That of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
