"""The pictures of records: located under the image root, checked by their header, opened as RGB."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from contralign.data.records.archive_member import ArchiveMember
from contralign.data.records.bad_record import BadRecord, short
from contralign.data.records.decoding import Undecodable, open_header, to_rgb

if TYPE_CHECKING:
    from datasets import Dataset

_ENCODED = 'wanted a file name, or {"bytes": …} with the content of a file'
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]+={0,2}\s*")
_LONGEST_NAME = 255
"""Most characters of a file's name on any usual file system."""
_MAGIC = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkq", "TU0A")
"""How JPEG, PNG, GIF, WebP and TIFF begin in base64."""
_SHORTEST_PICTURE = 40


class LocatedPath(type(Path())):
    """The resolved path of a picture that was found under its root: what is opened must lie at this very place."""


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """A picture in a Hugging Face dataset, not decoded until it is opened.

    Attributes:
        rows: the dataset, with its picture column left encoded (`datasets.Image(decode=False)`).
        row: index of the row.
        column: name of the picture column.
        position: index in the row's list of pictures; None where the column holds one picture.
        root: the image root, for datasets that store paths and not bytes.
    """

    rows: Dataset = field(repr=False)
    row: int
    column: str
    position: int | None
    root: Path | None = None

    @property
    def cell(self) -> object:
        """What the dataset holds of this picture."""
        cell = self.rows[self.row][self.column]
        return cell if self.position is None else cell[self.position]


@dataclass(frozen=True, eq=False)
class LazyImage:
    """A picture of a streamed record; it is not located, read or checked before a batch needs it.

    Attributes:
        value: a file name under the root, {"bytes": …, "path": …}, or a member of an archive.
        root: the image root.
    """

    value: str | Mapping[str, Any] | ArchiveMember
    root: Path | None = None

    @property
    def cell(self) -> object:
        """What the record holds of this picture."""
        return {"bytes": self.value.read()} if isinstance(self.value, ArchiveMember) else self.value


ImageSource = Image.Image | Path | DatasetImage | LazyImage


def as_image(value: object, root: Path | None) -> ImageSource:
    """A picture from a record's value: a file name, {"bytes": …, "path": …}, or a picture.

    Raises:
        BadRecord: see `locate_image` and `check_image`.
    """
    if isinstance(value, LazyImage):
        return value
    picture = value if isinstance(value, (Image.Image, DatasetImage)) else None
    if isinstance(value, Mapping):
        picture = (
            _open_bytes(value["bytes"]) if value.get("bytes") is not None else locate_image(value.get("path"), root)
        )
    picture = locate_image(value, root) if picture is None else picture
    check_image(picture)
    return picture


def locate_image(name: object, root: Path | None) -> Path:
    """Absolute path of the picture `name`, which must be under `root` after all symlinks are resolved.

    Raises:
        BadRecord: `remote_picture`, `no_image_root`, `wrong_type`, `absolute_path`, `outside_root` or
            `missing_picture`.
    """
    relative, root = checked_name(name, root)
    base, shown = root.resolve(), short(name)
    try:
        path = (base / relative).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadRecord("missing_picture", f"picture {shown} cannot be found under {root}: {why}") from error
    if not path.is_relative_to(base):
        raise BadRecord("outside_root", f"picture {shown} leads outside the image root {root}; move it under the root")
    if not is_file:
        raise BadRecord("missing_picture", f"picture {shown} is not a file under {root}; check the name and the root")
    return LocatedPath(path)


def checked_name(name: object, root: Path | None) -> tuple[str, Path]:
    """A picture's name and its root; the disk is not touched.

    Raises:
        BadRecord: `remote_picture`, `no_image_root`, `wrong_type` or `absolute_path`.
    """
    shown = short(name)
    if isinstance(name, bytes | bytearray | memoryview):
        raise BadRecord("wrong_type", f"picture of {len(name):,} raw bytes: {_ENCODED}")
    if isinstance(name, str) and name[:64].split(":", 1)[0].lower() in ("http", "https", "data", "ftp", "file"):
        raise BadRecord("remote_picture", f"picture {shown}: wanted a file; put it under the image root")
    if isinstance(name, str) and _is_base64(name):
        raise BadRecord("wrong_type", f"picture {shown} is base64: {_ENCODED}")
    if root is None:
        raise BadRecord("no_image_root", f"picture {shown} but no image root; set image_root to its folder")
    if not isinstance(name, str) or not name or "\0" in name:
        raise BadRecord("wrong_type", f"picture {shown}: wanted a file name relative to the image root")
    if Path(name).is_absolute():
        raise BadRecord("absolute_path", f"picture {shown} is an absolute path; write it relative to {root}")
    return name, root


def _is_base64(name: str) -> bool:
    """True for text that is an encoded picture rather than a path."""
    too_long = len(name.rpartition("/")[2]) > _LONGEST_NAME or len(name) > 4 * _LONGEST_NAME
    begins_so = len(name) > _SHORTEST_PICTURE and name.startswith(_MAGIC)
    return (too_long or begins_so) and bool(_BASE64.fullmatch(name))


def check_image(picture: ImageSource) -> None:
    """Check a picture by its header, without decoding it.

    Raises:
        BadRecord: `missing_picture` or `corrupt_picture`.
    """
    with _opened(picture) as opened:
        if min(opened.size) < 1:
            raise BadRecord("corrupt_picture", f"picture of {opened.size} pixels; wanted at least 1 x 1")


def open_image(picture: ImageSource) -> Image.Image:
    """The picture as RGB, as a viewer shows it: see `contralign.data.records.decoding.to_rgb`.

    Raises:
        BadRecord: `missing_picture`, `outside_root`, `no_file` or `corrupt_picture`.
    """
    with _opened(picture) as opened:
        try:
            return to_rgb(opened)
        except Undecodable as error:
            raise BadRecord("corrupt_picture", f"{describe(picture)} cannot be decoded: {error}") from error


def contents(picture: ImageSource) -> bytes:
    """What a digest of a picture is made from: the bytes of its file, or size and RGB pixels of one in memory.

    Raises:
        BadRecord: `missing_picture` or `corrupt_picture`.
    """
    try:
        if not isinstance(picture, Image.Image):
            with _stream(picture) as stream:
                return stream.read()
    except OSError as error:
        raise BadRecord("missing_picture", f"{describe(picture)} is gone: {error}") from error
    opened = open_image(picture)
    return repr(opened.size).encode() + opened.tobytes()


def describe(picture: ImageSource) -> str:
    """A short name for messages."""
    if isinstance(picture, Path):
        return f"picture {str(picture)!r}"
    if isinstance(picture, DatasetImage):
        return f"picture of row {picture.row}, column {picture.column!r}"
    if isinstance(picture, LazyImage):
        value = picture.value
        name = short(value) if isinstance(value, str) else getattr(value, "name", "in its record")
        return f"picture {name}"
    return f"picture of {picture.size} pixels"


@contextmanager
def _opened(picture: ImageSource) -> Iterator[Image.Image]:
    """The picture with its header read, until the block ends; one that is open already stays so."""
    if isinstance(picture, Image.Image):
        yield picture
        return
    try:
        stream = _stream(picture)
    except FileNotFoundError as error:
        raise BadRecord("missing_picture", f"{describe(picture)} is gone: {error}") from error
    except OSError as error:
        raise BadRecord("corrupt_picture", f"{describe(picture)} cannot be read: {error}") from error
    with stream:
        try:
            opened = open_header(stream)
        except Undecodable as error:
            raise BadRecord("corrupt_picture", f"{describe(picture)} cannot be read: {error}") from error
        yield opened


def _stream(picture: Path | DatasetImage | LazyImage) -> BinaryIO:
    """The bytes of a picture's file, or of its cell."""
    if isinstance(picture, Path):
        return open_regular(picture)
    cell = picture.cell
    if isinstance(cell, Mapping) and cell.get("bytes") is not None:
        return _byte_stream(cell["bytes"])
    return open_regular(_cell_path(cell, picture.root))


def open_regular(path: Path) -> BinaryIO:
    """A file for reading: what is opened is what was checked. Nothing here waits for another process.

    Args:
        path: where it lies; a `LocatedPath` must lie there without a symlink on the way, as when it was located.

    Raises:
        BadRecord: `no_file` (a FIFO, a device, a folder), or `outside_root`: it is elsewhere now.
        OSError: it cannot be opened.
    """
    located = isinstance(path, LocatedPath)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadRecord("no_file", f"picture {str(path)!r} is no regular file")
        if located and _place_of(descriptor, path) != str(path):
            raise BadRecord("outside_root", f"picture {str(path)!r} leads elsewhere than when it was checked")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _place_of(descriptor: int, path: Path) -> str:
    """Where an opened file lies: of the descriptor itself on Linux, elsewhere by its path."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return os.path.realpath(path)


def _cell_path(cell: object, root: Path | None) -> Path:
    """The file that a cell of an undecoded picture column names; `datasets` writes full paths, fine under the root."""
    name = cell.get("path") if isinstance(cell, Mapping) else cell
    if isinstance(name, str) and root is not None and Path(name).is_relative_to(root.resolve()):
        name = str(Path(name).relative_to(root.resolve()))
    return locate_image(name, root)


def _open_bytes(encoded: object) -> Image.Image:
    stream = _byte_stream(encoded)
    try:
        return open_header(stream)
    except Undecodable as error:
        size = len(stream.getbuffer())
        raise BadRecord("corrupt_picture", f"{size} bytes that are no picture: {error}") from error


def _byte_stream(encoded: object) -> io.BytesIO:
    if not isinstance(encoded, bytes):
        raise BadRecord("wrong_type", f"picture bytes of type {type(encoded).__name__}; {_ENCODED}")
    return io.BytesIO(encoded)
