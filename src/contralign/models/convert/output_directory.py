"""Where a converted checkpoint goes: written beside its place and renamed, so that it is there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contralign.atomic_write import atomic_write
from contralign.models.convert.checkpoint import ConversionError

GIB = 2**30


def check_output_directory(out: Path, source: Path, overwrite: bool) -> Path:
    """The place, if something may be written there.

    Raises:
        ConversionError: something is there that must not go, or the source lies inside.
    """
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConversionError(f"{out} is or holds the source: give another place")
    if out.exists() and not overwrite:
        raise ConversionError(f"{out} exists: give another place, or --overwrite")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "config.json").is_file())):
        raise ConversionError(f"{out} is no model directory: it is not overwritten")
    return out


@contextmanager
def atomic_directory(out: Path, size: int = 0) -> Iterator[Path]:
    """A new folder that becomes `out` when the block ends, and is removed when it fails.

    Args:
        out: replaced if it is there.
        size: bytes that will be written.

    Raises:
        ConversionError: the disk has no room for them.
    """
    with atomic_write(out) as partial:
        partial.mkdir(parents=True)
        free = shutil.disk_usage(partial).free
        if free < size:
            raise ConversionError(f"{out} takes {size / GIB:.1f} GiB and the disk has {free / GIB:.1f} left: make room")
        yield partial
