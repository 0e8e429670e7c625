import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from contralign.batch import VLBatch, column_indices
from contralign.contrast.base import Contrast
from contralign.contrast.patches import CLIP_MEAN_COLOUR, MaskPatches, mask_patches

GREEN = (1, 254, 3)


def picture(width: int, height: int, colour: tuple[int, int, int] = (200, 10, 20)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def batch_of(pictures: tuple | None, draw: int = 0, row_index: tuple[int, ...] | None = None) -> VLBatch:
    num_rows = len(pictures) if pictures is not None else 2
    input_ids = torch.arange(num_rows * 4).view(num_rows, 4)
    rows, columns = column_indices(input_ids)
    return VLBatch(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        labels=input_ids.clone(),
        image_mask=torch.zeros_like(input_ids, dtype=torch.bool),
        position_ids=None,
        inputs_embeds=torch.zeros(num_rows, 4, 3),
        row_index=rows if row_index is None else torch.tensor(row_index).unsqueeze(1).expand_as(input_ids),
        token_index=columns,
        pictures=pictures,
        vision_inputs={"pixel_values": torch.zeros(num_rows, 3, 2, 2)},
        draw=draw,
    )


def covered(image: Image.Image, fill: tuple[int, int, int] = CLIP_MEAN_COLOUR) -> np.ndarray:
    return (np.asarray(image) == fill).all(axis=-1)


@pytest.mark.parametrize("ratio", [0.005, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("size", [(100, 200), (640, 427), (10, 20), (33, 61)])
def test_exactly_that_share_of_200_cells_is_covered_whole(ratio, size):
    width, height = size
    mask = covered(mask_patches(picture(width, height), ratio, np.random.default_rng(3)))
    xs, ys = [round(i * width / 10) for i in range(11)], [round(j * height / 20) for j in range(21)]
    cells = [mask[ys[j] : ys[j + 1], xs[i] : xs[i + 1]] for j in range(20) for i in range(10)]
    assert all(cell.all() or not cell.any() for cell in cells)
    assert sum(bool(cell.all()) for cell in cells) == round(ratio * 200)


def test_every_cell_is_drawn_equally_often():
    rng = np.random.default_rng(0)
    hits = sum(covered(mask_patches(picture(10, 20), 0.5, rng)).astype(int) for _ in range(400))
    assert abs(hits.mean() - 200) < 1e-9
    assert hits.min() > 150 and hits.max() < 250  # 5 standard deviations of a fair draw


@pytest.mark.parametrize(("size", "wanted"), [((5, 7), round(0.5 * 35)), ((1, 1), 1), ((3, 400), 30), ((2000, 1), 5)])
def test_a_picture_smaller_than_the_grid_keeps_the_share(size, wanted):
    width, height = size
    mask = covered(mask_patches(picture(width, height), 0.5, np.random.default_rng(1)))
    pixels_per_cell = (width // min(width, 10)) * (height // min(height, 20))
    assert mask.sum() == wanted * pixels_per_cell


def test_fill_colour_is_a_setting_and_the_rest_is_untouched():
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 250, (60, 40, 3), dtype=np.uint8))
    before = np.array(image)
    masked = np.asarray(mask_patches(image, 0.5, rng, fill=GREEN))
    mask = (masked == GREEN).all(axis=-1)
    assert mask.mean() == 0.5
    assert (masked[~mask] == before[~mask]).all()
    assert (np.asarray(image) == before).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode_comes_out_as_rgb(mode):
    masked = mask_patches(Image.new(mode, (20, 40)), 0.5, np.random.default_rng(0))
    assert masked.mode == "RGB" and masked.size == (20, 40)
    assert covered(masked).mean() == 0.5


def test_the_draw_repeats_and_is_fresh_for_every_step_row_picture_and_seed():
    pictures = ((picture(50, 40), picture(50, 40)), (), (picture(50, 40),))
    contrast = MaskPatches(seed=7)
    first, again = contrast(batch_of(pictures, draw=3)), contrast(batch_of(pictures, draw=3))
    masks = [covered(image) for row in first.pictures for image in row]
    assert all((a == covered(b)).all() for a, b in zip(masks, (i for r in again.pictures for i in r), strict=True))
    other_step = covered(contrast(batch_of(pictures, draw=4)).pictures[0][0])
    other_seed = covered(MaskPatches(seed=8)(batch_of(pictures, draw=3)).pictures[0][0])
    draws = [*masks, other_step, other_seed]
    assert len({mask.tobytes() for mask in draws}) == len(draws)


def test_a_view_of_some_rows_draws_what_the_whole_batch_draws():
    pictures = ((picture(50, 40),), (), (picture(50, 40),))
    whole = MaskPatches()(batch_of(pictures, draw=2))
    view = MaskPatches()(batch_of(pictures[2:], draw=2, row_index=(2,)))
    assert (covered(view.pictures[0][0]) == covered(whole.pictures[2][0])).all()
    assert not (covered(view.pictures[0][0]) == covered(whole.pictures[0][0])).all()


def test_the_batch_that_was_given_stays_as_it_is():
    batch = batch_of(((picture(50, 40),), ()))
    before = np.array(batch.pictures[0][0])
    masked = MaskPatches()(batch)
    assert (np.asarray(batch.pictures[0][0]) == before).all()
    assert batch.inputs_embeds is not None and "pixel_values" in batch.vision_inputs
    assert masked.inputs_embeds is None and masked.vision_inputs == {}
    assert masked.pictures[1] == ()
    kept = {f.name for f in dataclasses.fields(batch)} - {"pictures", "inputs_embeds", "vision_inputs"}
    assert all(getattr(masked, name) is getattr(batch, name) for name in kept)


def test_it_is_a_contrast_that_encodes_again():
    contrast = MaskPatches()
    assert isinstance(contrast, Contrast)
    assert contrast.name == "patches" and contrast.reencodes
    with pytest.raises(dataclasses.FrozenInstanceError):
        contrast.ratio = 0.9


def test_a_batch_without_pictures_says_how_to_keep_them():
    with pytest.raises(ValueError, match="keep_pictures=True"):
        MaskPatches()(batch_of(None))


def test_pictures_that_do_not_fit_the_rows_are_refused():
    batch = dataclasses.replace(batch_of(((), ())), pictures=((),))
    with pytest.raises(ValueError, match="pictures of 1 rows came with a batch of 2 rows"):
        MaskPatches()(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "ratio=0"),
        ({"ratio": -0.1}, "ratio=-0.1"),
        ({"ratio": 1.01}, "ratio=1.01"),
        ({"ratio": float("nan")}, "ratio=nan"),
        ({"ratio": True}, "ratio=True"),
        ({"ratio": 0.001}, "covers none of 200 cells"),
        ({"fill": (0, 0)}, "fill="),
        ({"fill": (0, 0, 256)}, "fill="),
        ({"fill": (0, 0, -1)}, "fill="),
        ({"fill": (0.5, 0, 0)}, "fill="),
        ({"fill": "red"}, "fill="),
        ({"fill": (True, 0, 0)}, "fill="),
        ({"fill": None}, "fill="),
        ({"ratio": "0.5"}, "ratio="),
        ({"columns": 0}, "columns=0"),
        ({"rows": 2.5}, "rows=2.5"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, "seed=0.5"),
    ],
)
def test_a_bad_setting_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskPatches(**settings)


def test_the_function_refuses_what_the_class_refuses():
    with pytest.raises(ValueError, match="ratio=2"):
        mask_patches(picture(20, 20), 2, np.random.default_rng(0))
