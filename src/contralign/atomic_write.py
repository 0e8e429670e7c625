"""Files and folders that get their name only once they are complete and on the disk.

Content is written under another name in the same folder, flushed with fsync and renamed, which a file system does at
once or not at all. A process that is killed leaves the old content or none, never half of the new.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(place: Path, partial: Path | None = None) -> Iterator[Path]:
    """A path to write a file or a folder to, which becomes `place` when the block ends and is removed when it fails.

    Args:
        place: a file or a folder; replaced if it is there.
        partial: where to write, on the same file system; None is `partial_path(place)`. Processes that may write the
            same place at once need one each.
    """
    partial = partial or partial_path(place)
    replaced = partial_path(place.with_name(f"{place.name}.replaced"))
    remove(partial)
    try:
        yield partial
        _apply_umask(partial)
        sync(partial)
        if place.is_dir():
            remove(replaced)
            os.replace(place, replaced)
        os.replace(partial, place)
    except BaseException:
        remove(partial)
        raise
    sync_folder(place.parent)
    remove(replaced)


def partial_path(place: Path) -> Path:
    """Where a file or a folder lies while it is being written."""
    return place.with_name(f".{place.name}.writing")


def is_partial(path: Path) -> bool:
    """True for what a killed `atomic_write` has left."""
    return path.name.startswith(".") and path.name.endswith(".writing")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Fsync a file, or a folder and all that is in it."""
    for place in (*path.rglob("*"), path):
        if place.is_dir():
            sync_folder(place)
        else:
            fsync(place)


def sync_folder(folder: Path) -> None:
    """Fsync the names in a folder, where the file system can."""
    with contextlib.suppress(OSError):
        fsync(folder)


def fsync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 where there is none."""
    return sum(place.stat().st_size for place in (path, *path.rglob("*")) if place.is_file())


def _apply_umask(path: Path) -> None:
    """Make files as readable as the umask says: safetensors makes files that nobody else may read."""
    mask = os.umask(0o077)  # a umask can only be read by setting it
    os.umask(mask)
    for file in (path, *path.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~mask)
