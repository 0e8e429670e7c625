"""Where a converted checkpoint goes: written beside its place and renamed, so that it is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """A new folder beside `out` that takes its name when the block is done, and is removed if the block fails.

    Args:
        out: replaced if it is there.
        size: bytes that will be written.

    Raises:
        ConversionError: the disk has no room for them.
    """
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        free = shutil.disk_usage(partial).free
        if free < size:
            raise ConversionError(f"{out} takes {size / GIB:.1f} GiB and the disk has {free / GIB:.1f} left: make room")
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if out.exists():
        old = out.with_name(f"{out.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)
