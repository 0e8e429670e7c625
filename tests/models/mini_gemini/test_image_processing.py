"""Pixels equal a slow way written for these tests: PIL, numpy and the formula of bilinear interpolation."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from worlds.small_mini_gemini import small_config

from contralign.data.batches.aspect import pad_to_square
from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiImageProcessor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def synthetic(width, height):
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red = np.broadcast_to(255 * x // max(width - 1, 1), (height, width))
    green = np.broadcast_to(255 * y // max(height - 1, 1), (height, width))
    blue = 180 * ((x // 8 + y // 8) % 2) + (x * y) % 60
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def slow_large(picture, side):
    """Shortest edge to `side`, bicubic; the middle; normalised: (3, side, side)."""
    width, height = picture.size
    short = min(width, height)
    resized = picture.resize((int(side * width / short), int(side * height / short)), Image.Resampling.BICUBIC)
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), dtype=np.float64) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def weights_of(before, after):
    """Row i says of which two old places new place i is made, half-pixel centres, the edge held.

    Places are reckoned in float32, as torch does: in float64 pixels differ by up to 2e-4.
    """
    matrix = np.zeros((after, before))
    scale = np.float32(before) / np.float32(after)
    for place in range(after):
        at = max(scale * np.float32(place + 0.5) - np.float32(0.5), np.float32(0))
        low = int(at)
        share = float(at - np.float32(low))
        matrix[place, low] += 1 - share
        matrix[place, min(low + 1, before - 1)] += share
    return matrix


def slow_bilinear(pixels, side):
    return weights_of(pixels.shape[1], side) @ pixels @ weights_of(pixels.shape[2], side).T


def slow_small(large, side, grid):
    small = slow_bilinear(large, grid * side)
    if grid == 1:
        return small
    crops = [small[:, r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(grid) for c in range(grid)]
    return np.stack([*crops, slow_bilinear(small, side)])


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("aspect", ["square", "pad"])
def test_pixels_at_true_size_equal_the_slow_way(grid, aspect):
    processor = MiniGeminiImageProcessor.for_config(MiniGeminiConfig(image_grid=grid), do_pad=aspect == "pad")
    picture = synthetic(500, 389)
    made = processor(images=[picture], return_tensors="pt")
    large = slow_large(pad_to_square(picture) if aspect == "pad" else picture, 768 * grid)
    small = slow_small(large, 336, grid)
    assert made["pixel_values_aux"].shape == (1, 3, 768 * grid, 768 * grid)
    assert made["pixel_values"].shape == ((1, 3, 336, 336) if grid == 1 else (1, 5, 3, 336, 336))
    for name, wanted in (("pixel_values_aux", large), ("pixel_values", small)):
        assert made[name].dtype == torch.float32
        np.testing.assert_allclose(made[name][0].numpy(), wanted, atol=5e-6, rtol=0)


def test_the_small_picture_is_not_clips_own():
    """It comes from the normalised large one without antialiasing; resizing the picture itself gives other pixels."""
    processor = MiniGeminiImageProcessor(do_pad=False)
    picture = synthetic(768, 768)
    made = processor(images=[picture], return_tensors="pt")["pixel_values"][0].numpy()
    assert np.abs(made - slow_large(picture, 336)).max() > 0.1


def test_padding_before_the_processor_is_padding_in_it():
    picture = synthetic(90, 41)
    sizes = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}, "low_res_size": 28}
    inside = MiniGeminiImageProcessor(**sizes, do_pad=True)(images=[picture], return_tensors="pt")
    before = MiniGeminiImageProcessor(**sizes)(images=[pad_to_square(picture)], return_tensors="pt")
    both = MiniGeminiImageProcessor(**sizes, do_pad=True)(images=[pad_to_square(picture)], return_tensors="pt")
    cropped = MiniGeminiImageProcessor(**sizes)(images=[picture], return_tensors="pt")
    for name in ("pixel_values", "pixel_values_aux"):
        assert torch.equal(inside[name], before[name])
        assert torch.equal(inside[name], both[name])
        assert not torch.equal(inside[name], cropped[name])


@pytest.mark.parametrize("grid", [1, 2])
def test_a_saved_processor_comes_back_through_auto_and_makes_the_same_pixels(tmp_path, grid):
    processor = MiniGeminiImageProcessor.for_config(small_config(grid))
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MiniGeminiImageProcessor
    pictures = [synthetic(60, 33), synthetic(21, 70)]
    ours, theirs = (each(images=pictures, return_tensors="pt") for each in (processor, loaded))
    assert sorted(ours) == ["pixel_values", "pixel_values_aux"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_pictures_one_by_one_are_pictures_together():
    processor = MiniGeminiImageProcessor.for_config(small_config(2))
    pictures = [synthetic(60, 33), synthetic(21, 70), synthetic(1, 5)]
    together = processor(images=pictures, return_tensors="pt")
    for index, picture in enumerate(pictures):
        alone = processor(images=[picture], return_tensors="pt")
        assert all(torch.equal(alone[name][0], together[name][index]) for name in together)


def test_pictures_left_in_several_shapes_are_refused():
    processor = MiniGeminiImageProcessor.for_config(small_config(), do_center_crop=False)
    with pytest.raises(ValueError, match=r"several shapes.*do_center_crop"):
        processor(images=[synthetic(60, 33), synthetic(21, 70)], return_tensors="pt")
