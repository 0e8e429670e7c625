"""Padding or cropping of a picture before the processor (spec 2.4): the setting `image_aspect`."""

from collections.abc import Callable

from PIL import Image

from contralign.data.choices import ImageAspect
from contralign.data.records.bad_record import BadRecord

# int(255 · mean) of CLIP's pixel statistics: 0 after normalisation, nearly.
MEAN_COLOUR = (122, 116, 104)

MOST_PIXELS = 2 * 89_478_485
"""Of a padded picture: what Pillow takes of a file before it calls it a decompression bomb. 0.54 GB."""


def pad_to_square(picture: Image.Image, colour: tuple[int, int, int] = MEAN_COLOUR) -> Image.Image:
    """Pad a picture to the square of its longer side, centred.

    Raises:
        BadRecord: `too_long`: the square would have more than `MOST_PIXELS`.
    """
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    if side * side > MOST_PIXELS:
        raise BadRecord(
            "too_long",
            f"picture of {width} x {height} pixels: its square would have {side * side:,}, wanted at most "
            f"{MOST_PIXELS:,}; scale or cut it, or take another image_aspect",
        )
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def crop_to_square(picture: Image.Image) -> Image.Image:
    """Crop a picture to the centred square of its shorter side.

    CLIP's processor, which resizes the shorter edge and crops the centre, does this itself, to the pixel as LLaVA did:
    use "processor" with it.
    """
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture if width == height else picture.crop((left, top, left + side, top + side))


ASPECTS: dict[ImageAspect, Callable[[Image.Image], Image.Image]] = {
    "processor": lambda picture: picture,
    "pad": pad_to_square,
    "square": crop_to_square,
}
