import json
from pathlib import Path

import pytest
from PIL import Image
from transformers import LlavaNextImageProcessorPil

from contralign.data.batches.image_inputs import image_inputs

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "llava_anyres.json").read_text())
# Hugging Face rounds before it takes the whole part and so keeps more rows here (spec, section 5).
ROUNDED_OTHERWISE = {(205, 984)}
SIZES = [tuple(row["size_wh"]) for row in GOLDEN["s336"]["rows"] if max(row["size_wh"]) <= 1100]


@pytest.mark.parametrize("size", [size for size in SIZES if size not in ROUNDED_OTHERWISE])
def test_llava_next_pictures_take_as_many_tokens_as_in_the_original(size, llava_next):
    row = next(row for row in GOLDEN["s336"]["rows"] if tuple(row["size_wh"]) == size)
    made = image_inputs(llava_next, [Image.new("RGB", size)])
    assert len(made.blocks[0]) == row["num_tokens"]
    assert set(made.blocks[0]) == {llava_next.image_token_id}
    assert made.vision["pixel_values"].shape[:2] == (1, row["num_tiles"])


@pytest.fixture
def llava_next(make_llava_next):
    processor = make_llava_next()
    processor.image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=[[height, width] for width, height in GOLDEN["s336"]["pinpoints_wh"]],
    )
    return processor


def test_no_pictures_make_nothing(llava):
    made = image_inputs(llava, [])
    assert (made.blocks, made.token_fields, made.vision) == ([], {}, {})


def test_a_picture_takes_the_same_tokens_alone_and_beside_others(any_processor, red, blue):
    together = image_inputs(any_processor, [red, blue, red])
    alone = [image_inputs(any_processor, [picture]).blocks[0] for picture in (red, blue, red)]
    assert together.blocks == alone
    assert all(value.shape[0] == 3 for value in together.vision.values())


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (40, 3), (3, 40), (300, 2)])
def test_thin_pictures_keep_their_colour(size, llava):
    pixels = image_inputs(llava, [Image.new("RGB", size, (255, 0, 0))]).vision["pixel_values"]
    assert pixels.std(dim=(0, 2, 3)).max() < 1e-6
    assert pixels[0, 0].mean() > 1 > pixels[0, 1].mean()
