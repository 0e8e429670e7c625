"""Encoded pictures into RGB, as a viewer shows them.

Only raster formats are read: nothing that starts another program or asks the system for more (EPS, PDF, WMF, FITS …).
Whatever a decoder raises is told as a ValueError of one line, since it is about one picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from contralign.data.records.bad_record import one_line

RASTER_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "HEIF")
"""Formats that are read, where Pillow (or pillow-heif, once it is registered) has them."""

FORMATS_VARIABLE = "CONTRALIGN_PICTURE_FORMATS"
"""Environment variable with formats to read instead, such as "JPEG,PNG": loader processes inherit it."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_LARGEST = {8: 255, 16: 65535, 31: 2**31 - 1}


class Undecodable(ValueError):
    """Bytes that are no picture, or one that cannot be shown."""


def picture_formats() -> list[str]:
    """Names of the formats that are read here.

    Raises:
        ValueError: the environment variable names one that is not among `RASTER_FORMATS`.
    """
    wanted = [name.strip().upper() for name in os.environ.get(FORMATS_VARIABLE, "").split(",") if name.strip()]
    unknown = [name for name in wanted if name not in RASTER_FORMATS]
    if unknown:
        raise ValueError(f"{FORMATS_VARIABLE}: {unknown[0]!r}: wanted some of {', '.join(RASTER_FORMATS)}")
    Image.init()
    return [name for name in wanted or RASTER_FORMATS if name in Image.OPEN]


def open_header(stream: BinaryIO) -> Image.Image:
    """A picture whose header was read, from a stream that has to stay open until it is decoded.

    Raises:
        Undecodable: it is no picture of a format that is read.
    """
    with decoding_errors():
        formats = picture_formats()
        try:
            opened = Image.open(stream, formats=formats)
        except UnidentifiedImageError as error:
            raise Undecodable(f"it is of no format that is read ({', '.join(formats)}), or damaged") from error
        if min(opened.size) < 1:
            raise Undecodable(f"it has {opened.size} pixels; wanted at least 1 x 1")
    return opened


def to_rgb(opened: Image.Image) -> Image.Image:
    """The picture as a viewer shows it.

    The EXIF orientation is applied (damaged EXIF is ignored), transparency is laid on white, and grey values of more
    than 8 bits are scaled: those of 16 bits by 257; 32-bit integers as they are up to 255, else as 16 bits up to 65535,
    else by their range; floats of 0 to 1 by 255, else as integers.

    Raises:
        Undecodable: it is cut off or damaged, or a grey value is NaN, infinite or negative.
    """
    with decoding_errors():
        opened.load()  # some decoders apply the orientation themselves, and forget it then
        return _flat(_upright(opened))


@contextmanager
def decoding_errors() -> Iterator[None]:
    """Whatever is raised inside the block, as `Undecodable`."""
    try:
        yield
    except (Undecodable, FileNotFoundError):
        raise
    except Exception as error:  # decoders raise of every kind on damaged files
        raise Undecodable(one_line(error)) from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        method = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF, which viewers ignore
        return picture
    return picture if method is None else picture.transpose(method)


def _flat(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture, dtype=np.uint16) // 257)
    if picture.mode == "I":
        return _grey(_scaled(np.asarray(picture, dtype=np.int64)))
    if picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(values).all():
            raise Undecodable("it holds NaN or infinite values")
        return _grey(np.rint(values * 255) if values.max() <= 1 and values.min() >= 0 else _scaled(values))
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        solid = picture.convert("RGBA")
        white = Image.new("RGBA", solid.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, solid).convert("RGB")
    return picture if type(picture) is Image.Image and picture.mode == "RGB" else picture.convert("RGB")


def _scaled(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64] | NDArray[np.float64]:
    """Grey values of an unknown number of bits, 0 to 255."""
    darkest, lightest = values.min(), values.max()
    if darkest < 0 or lightest > _LARGEST[31]:
        raise Undecodable(f"its grey values run from {darkest:g} to {lightest:g}; wanted none below 0")
    top = next(top for top in _LARGEST.values() if lightest <= top)
    return values * 255 // top


def _grey(values: NDArray[np.generic]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
