import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from contralign.batch import VLBatch, column_indices
from contralign.contrast.base import Contrast
from contralign.contrast.blur import BlurPicture, gaussian_blur, gaussian_kernel


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mirrored(index: int, length: int) -> int:
    """Walks back and forth over 0 … length − 1, standing still for one step at each end."""
    while not 0 <= index < length:
        index = -index - 1 if index < 0 else 2 * length - 1 - index
    return index


def slow_blur(image: Image.Image, sigma: float) -> np.ndarray:
    """Direct two-dimensional convolution, unrounded."""
    pixels = np.asarray(image, dtype=np.float64)
    height, width, _ = pixels.shape
    radius = math.ceil(3 * sigma)
    blurred, total = np.zeros_like(pixels), 0.0
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            share = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
            total += share
            for y in range(height):
                for x in range(width):
                    blurred[y, x] += share * pixels[mirrored(y + dy, height), mirrored(x + dx, width)]
    return blurred / total


def batch_of(pictures: tuple | None) -> VLBatch:
    input_ids = torch.arange(8).view(2, 4)
    rows, columns = column_indices(input_ids)
    return VLBatch(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        labels=input_ids.clone(),
        image_mask=torch.zeros_like(input_ids, dtype=torch.bool),
        position_ids=None,
        inputs_embeds=torch.zeros(2, 4, 3),
        row_index=rows,
        token_index=columns,
        pictures=pictures,
        vision_inputs={"pixel_values": torch.zeros(2, 3, 2, 2)},
    )


@pytest.mark.parametrize(
    ("size", "sigma"), [((9, 7), 0.8), ((12, 5), 1.0), ((4, 3), 2.3), ((1, 6), 1.5), ((2, 2), 1.0)]
)
def test_it_equals_a_direct_two_dimensional_convolution(size, sigma):
    image = noise(*size)
    truth = slow_blur(image, sigma)
    blurred = np.asarray(gaussian_blur(image, sigma), dtype=np.float64)
    assert np.abs(blurred - truth).max() <= 0.5 + 1e-3  # rounding to a byte, and float32


@pytest.mark.parametrize("sigma", [0.1, 1, 2.5, 10])
def test_an_impulse_becomes_the_kernel(sigma):
    radius = math.ceil(3 * sigma)
    side = 2 * radius + 5
    pixels = np.zeros((side, side, 3), dtype=np.uint8)
    pixels[:, side // 2] = 255  # a line: one axis blurs it, the other leaves it
    row = np.asarray(gaussian_blur(Image.fromarray(pixels), sigma))[side // 2, :, 0]
    wanted = np.zeros(side)
    wanted[2:-2] = gaussian_kernel(sigma) * 255
    assert np.abs(row - wanted).max() <= 0.5 + 1e-3
    assert row.max() > 0


@pytest.mark.parametrize(("sigma", "taps"), [(1, 7), (10, 61), (0.5, 5), (0.34, 5), (0.33, 3)])
def test_the_kernel_is_a_gaussian_cut_at_three_sigma(sigma, taps):
    kernel = gaussian_kernel(sigma)
    centre = taps // 2
    assert len(kernel) == taps and kernel.sum() == pytest.approx(1, abs=1e-12)
    assert kernel[centre + 1] / kernel[centre] == pytest.approx(math.exp(-1 / (2 * sigma**2)))
    assert (kernel == kernel[::-1]).all()


@pytest.mark.parametrize("sigma", [0.3, 1, 10])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (122, 116, 104)])
def test_a_constant_picture_stays(sigma, colour):
    image = Image.new("RGB", (13, 8), colour)
    assert (np.asarray(gaussian_blur(image, sigma)) == colour).all()


@pytest.mark.parametrize("sigma", [1, 10])
@pytest.mark.parametrize("size", [(64, 48), (5, 90)])
def test_the_mean_colour_is_kept_and_contrast_is_lost(sigma, size):
    image = noise(*size)
    before, after = np.asarray(image, dtype=float), np.asarray(gaussian_blur(image, sigma), dtype=float)
    assert np.abs(before.mean(axis=(0, 1)) - after.mean(axis=(0, 1))).max() < 0.1
    assert after.std() < 0.5 * before.std()


def test_a_picture_smaller_than_the_kernel_works():
    blurred = gaussian_blur(Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)), 10)
    assert blurred.size == (2, 1)
    assert set(np.asarray(blurred).ravel().tolist()) <= {127, 128}


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode_comes_out_as_rgb(mode):
    blurred = gaussian_blur(Image.new(mode, (20, 10)), 1)
    assert blurred.mode == "RGB" and blurred.size == (20, 10)


def test_the_picture_and_the_batch_that_were_given_stay_as_they_are():
    image = noise(20, 30)
    before = np.array(image)
    batch = batch_of(((image,), ()))
    blurred = BlurPicture(2.0)(batch)
    assert (np.asarray(image) == before).all()
    assert batch.pictures[0][0] is image and batch.inputs_embeds is not None and batch.vision_inputs
    assert (np.asarray(blurred.pictures[0][0]) == np.asarray(gaussian_blur(image, 2.0))).all()
    assert not (np.asarray(blurred.pictures[0][0]) == before).all()
    assert blurred.pictures[1] == () and blurred.inputs_embeds is None and blurred.vision_inputs == {}
    kept = {f.name for f in dataclasses.fields(batch)} - {"pictures", "inputs_embeds", "vision_inputs"}
    assert all(getattr(blurred, name) is getattr(batch, name) for name in kept)


def test_it_is_a_contrast_that_encodes_again():
    contrast = BlurPicture(1.0)
    assert isinstance(contrast, Contrast)
    assert contrast.name == "blur" and contrast.reencodes


def test_a_batch_without_pictures_says_how_to_keep_them():
    with pytest.raises(ValueError, match="keep_pictures=True"):
        BlurPicture(1.0)(batch_of(None))


@pytest.mark.parametrize("sigma", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_bad_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma="):
        BlurPicture(sigma)
    with pytest.raises(ValueError, match="sigma="):
        gaussian_blur(noise(4, 4), sigma)
