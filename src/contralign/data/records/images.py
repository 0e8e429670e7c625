"""The pictures of records: located under the image root, checked by their header, opened as RGB."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from contralign.data.records.archive_member import ArchiveMember
from contralign.data.records.bad_record import BadRecord

if TYPE_CHECKING:
    from datasets import Dataset

# What PIL raises on files that are no picture, are cut off, or claim billions of pixels.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
    base = root.resolve()
    try:
        path = (base / relative).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:
        raise BadRecord("missing_picture", f"picture {name!r} cannot be found under {root}: {error}") from error
    if not path.is_relative_to(base):
        raise BadRecord("outside_root", f"picture {name!r} leads outside the image root {root}; move it under the root")
    if not is_file:
        raise BadRecord("missing_picture", f"picture {name!r} is not a file under {root}; check the name and the root")
    return path


def checked_name(name: object, root: Path | None) -> tuple[str, Path]:
    """A picture's name and its root; the disk is not touched.

    Raises:
        BadRecord: `remote_picture`, `no_image_root`, `wrong_type` or `absolute_path`.
    """
    if isinstance(name, str) and name.split(":", 1)[0].lower() in ("http", "https", "data", "ftp", "file"):
        raise BadRecord("remote_picture", f"picture {name[:80]!r}: wanted a file; put it under the image root")
    if root is None:
        raise BadRecord("no_image_root", f"picture {name!r} but no image root; set image_root to its folder")
    if not isinstance(name, str) or not name or "\0" in name:
        raise BadRecord("wrong_type", f"picture {name!r}: wanted a file name relative to the image root")
    if Path(name).is_absolute():
        raise BadRecord("absolute_path", f"picture {name!r} is an absolute path; write it relative to {root}")
    return name, root


def check_image(picture: ImageSource) -> None:
    """Check a picture by its header, without decoding it.

    Raises:
        BadRecord: `missing_picture` or `corrupt_picture`.
    """
    opened = _open(picture)
    if min(opened.size) < 1:
        raise BadRecord("corrupt_picture", f"picture of {opened.size} pixels; wanted at least 1 x 1")
    if opened is not picture:
        opened.close()


def open_image(picture: ImageSource) -> Image.Image:
    """The picture as RGB; transparency is laid on white, 16-bit grey is scaled to 8 bits.

    Raises:
        BadRecord: `missing_picture` or `corrupt_picture`.
    """
    opened = _open(picture)
    try:
        if opened is picture:
            return _to_rgb(opened)
        with opened:
            return _to_rgb(opened)
    except _UNREADABLE as error:
        raise BadRecord("corrupt_picture", f"{describe(picture)} cannot be decoded: {error}") from error


def contents(picture: ImageSource) -> bytes:
    """What a digest of a picture is made from: the bytes of its file, or size and RGB pixels of one in memory.

    Raises:
        BadRecord: `missing_picture` or `corrupt_picture`.
    """
    try:
        if isinstance(picture, Path):
            return picture.read_bytes()
        if isinstance(picture, (DatasetImage, LazyImage)):
            return _cell_bytes(picture.cell, picture.root)
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
        return f"picture {value!r}" if isinstance(value, str) else f"picture {getattr(value, 'name', 'in its record')}"
    return f"picture of {picture.size} pixels"


def _open(picture: ImageSource) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    try:
        return Image.open(picture) if isinstance(picture, Path) else _open_cell(picture.cell, picture.root)
    except FileNotFoundError as error:
        raise BadRecord("missing_picture", f"{describe(picture)} is gone: {error}") from error
    except BadRecord:
        raise
    except _UNREADABLE as error:
        raise BadRecord("corrupt_picture", f"{describe(picture)} cannot be read: {error}") from error


def _open_cell(cell: object, root: Path | None) -> Image.Image:
    if isinstance(cell, Mapping) and cell.get("bytes") is not None:
        return _open_bytes(cell["bytes"])
    return Image.open(_cell_path(cell, root))


def _cell_bytes(cell: object, root: Path | None) -> bytes:
    if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), bytes):
        return cell["bytes"]
    return _cell_path(cell, root).read_bytes()


def _cell_path(cell: object, root: Path | None) -> Path:
    """The file that a cell of an undecoded picture column names; `datasets` writes full paths, fine under the root."""
    name = cell.get("path") if isinstance(cell, Mapping) else cell
    if isinstance(name, str) and root is not None and Path(name).is_relative_to(root.resolve()):
        name = str(Path(name).relative_to(root.resolve()))
    return locate_image(name, root)


def _open_bytes(encoded: object) -> Image.Image:
    if not isinstance(encoded, bytes):
        raise BadRecord("wrong_type", f"picture bytes of type {type(encoded).__name__}; wanted bytes")
    try:
        return Image.open(io.BytesIO(encoded))
    except _UNREADABLE as error:
        raise BadRecord("corrupt_picture", f"{len(encoded)} bytes that are no picture: {error}") from error


def _to_rgb(opened: Image.Image) -> Image.Image:
    if type(opened) is Image.Image and opened.mode == "RGB":
        return opened
    if opened.mode.startswith("I;16"):
        grey = np.asarray(opened, dtype=np.uint16)
        return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
    if opened.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in opened.info:
        solid = opened.convert("RGBA")
        white = Image.new("RGBA", solid.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, solid).convert("RGB")
    return opened.convert("RGB")
