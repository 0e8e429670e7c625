"""Pixels against those of the original code (tests/golden/llava_anyres.npz)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from contralign.data.batches.aspect import ASPECTS, crop_to_square, pad_to_square
from contralign.data.records.bad_record import BadRecord

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "llava_anyres.npz")
NAMES = [name for name in GOLDEN if name.endswith(("pad_sample", "square_sample"))]


def synthetic_picture(width: int, height: int) -> Image.Image:
    """The picture of golden/README.md."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red = 255 * x // max(width - 1, 1) + 0 * y
    green = 255 * y // max(height - 1, 1) + 0 * x
    blue = 180 * ((x // 8 + y // 8) % 2) + (x * y % 60)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_pixels_equal_the_originals(name):
    size, shape, kind = name.split("/")
    side, (width, height) = int(size[1:]), map(int, shape.split("x"))
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    aspect = "pad" if kind == "pad_sample" else "processor"
    picture = ASPECTS[aspect](synthetic_picture(width, height))
    pixels = processor([picture], return_tensors="np")["pixel_values"][0]
    step = max(side // 12, 1)
    picked = np.arange(step // 2, side, step)
    np.testing.assert_allclose(pixels[:, picked][:, :, picked], GOLDEN[name], atol=1e-5)


@pytest.mark.parametrize("size", [(40, 20), (20, 41), (7, 7), (1, 9)])
def test_both_make_squares_around_the_middle(size):
    picture = synthetic_picture(*size)
    padded, cropped = pad_to_square(picture), crop_to_square(picture)
    assert padded.size == (max(size),) * 2 and cropped.size == (min(size),) * 2
    left, top = (max(size) - size[0]) // 2, (max(size) - size[1]) // 2
    assert padded.crop((left, top, left + size[0], top + size[1])).tobytes() == picture.tobytes()


@pytest.mark.parametrize("size", [(1, 65_500), (65_500, 1), (14_000, 20)])
def test_a_square_that_would_take_gigabytes_is_a_bad_record(size):
    with pytest.raises(BadRecord, match=r"its square would have .* wanted at most 178,956,970.*too_long"):
        pad_to_square(Image.new("RGB", size))


def test_a_long_picture_within_the_bound_is_padded():
    assert pad_to_square(Image.new("RGB", (1, 3_000))).size == (3_000, 3_000)
