"""Anyres against the original's numbers (tests/golden/llava_anyres.*), and against transformers.

`literal_*` are the rule of spec 2.4 written down once more, step by step, as a second witness.
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPImageProcessorPil
from worlds.same_numbers import assert_near
from worlds.small_llava_next import TILE, build_llava_next, picture, plain_model, plain_processor

from contralign.models.anyres.tiling import (
    RELEASED_GRIDS,
    best_grid,
    canvases,
    num_tokens,
    pack,
    unpadded,
    use_original_tiling,
    use_original_tiling_if_released,
)

GOLDEN = Path(__file__).parents[2] / "golden"
ROWS = json.loads((GOLDEN / "llava_anyres.json").read_text())
PIXELS = np.load(GOLDEN / "llava_anyres.npz")
GOLDEN_SIZES = [(name, *row["size_wh"]) for name, given in ROWS.items() for row in given["rows"]]


def packed_coordinates(size, tile, patch):
    """Where each token of a picture is from: (tile, row and column of the patch in it), −1 at newlines."""
    grid = best_grid(size, tile)
    side = tile // patch
    axes = (torch.arange(1 + grid[0] * grid[1]), torch.arange(side), torch.arange(side))
    places = torch.cartesian_prod(*axes).view(len(axes[0]), side**2, 3)
    return pack(places, torch.full((3,), -1), size, grid)


def sweep_axis():
    """200 lengths from 1 to 4000: all small ones, then steps that grow, the borders of canvases and one beside each."""
    borders = {edge + step for edge in (112, 168, 224, 336, 504, 672, 1008, 1344, 2016) for step in (-1, 0, 1)}
    common = {205, 984, 342, 608, 640, 480, 1280, 720, 1024, 768, 2481, 3508}
    growing = {round(4000 ** (step / 225)) for step in range(226)}
    return sorted(borders | common | growing)


AXIS = sweep_axis()
SWEEP = [(width, height) for width in AXIS for height in AXIS]


def literal_canvas(width, height, pinpoints):
    best, most, least = None, 0, float("inf")
    for canvas_width, canvas_height in pinpoints:
        scale = min(canvas_width / width, canvas_height / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        wasted = canvas_width * canvas_height - effective
        if effective > most or (effective == most and wasted < least):
            best, most, least = (canvas_width, canvas_height), effective, wasted
    return best


def literal_tokens(width, height, pinpoints, tile, patch):
    """Grid and tokens."""
    canvas_width, canvas_height = literal_canvas(width, height, pinpoints)
    columns, rows = canvas_width // patch, canvas_height // patch
    if width / height > columns / rows:
        cut = (rows - int(height * (columns / width))) // 2
        rows = rows - cut - cut
    else:
        cut = (columns - int(width * (rows / height))) // 2
        columns = columns - cut - cut
    return (canvas_width // tile, canvas_height // tile), (tile // patch) ** 2 + rows * columns + rows


def literal_tiles(image, pinpoints, tile):
    """Pixels of the whole picture, squashed, and of the tiles of its canvas."""
    width, height = image.size
    canvas = literal_canvas(width, height, pinpoints)
    if canvas[0] / width < canvas[1] / height:
        fitted = canvas[0], min(math.ceil(height * (canvas[0] / width)), canvas[1])
    else:
        fitted = min(math.ceil(width * (canvas[1] / height)), canvas[0]), canvas[1]
    black = Image.new("RGB", canvas, (0, 0, 0))
    black.paste(image.resize(fitted), ((canvas[0] - fitted[0]) // 2, (canvas[1] - fitted[1]) // 2))
    corners = [(left, top) for top in range(0, canvas[1], tile) for left in range(0, canvas[0], tile)]
    shown = [image.resize((tile, tile)), *(black.crop((x, y, x + tile, y + tile)) for x, y in corners)]
    clip = CLIPImageProcessorPil(size={"shortest_edge": tile}, crop_size={"height": tile, "width": tile})
    return clip(shown, return_tensors="np")["pixel_values"]


def hf_counts(processor, sizes):
    """Tokens by the processor's own method, which asks for no pixels."""
    heights_first = [(height, width) for width, height in sizes]
    return processor._get_num_multimodal_tokens(image_sizes=heights_first).num_image_tokens


@pytest.fixture(scope="module")
def released_counts():
    return [literal_tokens(width, height, canvases(336), 336, 14) for width, height in SWEEP]


def original_pair(tile):
    """Under the rule, at another size of tiles than the tower's, which is not run."""
    processor = plain_processor(tile)
    model = plain_model(processor)
    model.config.vision_config.image_size = tile
    use_original_tiling(model, processor)
    return model, processor


def golden_row(name, width, height):
    return next(row for row in ROWS[name]["rows"] if row["size_wh"] == [width, height])


# The rule


@pytest.mark.parametrize(("name", "width", "height"), GOLDEN_SIZES)
def test_grid_tiles_tokens_and_newlines_equal_the_originals(name, width, height):
    row, tile, patch = golden_row(name, width, height), ROWS[name]["tile"], ROWS[name]["patch"]
    grid = best_grid((width, height), tile)
    assert canvases(tile) == [tuple(pair) for pair in ROWS[name]["pinpoints_wh"]]
    assert grid == tuple(row["grid_wh"]) and canvases(tile, [grid]) == [tuple(row["best_wh"])]
    assert 1 + grid[0] * grid[1] == row["num_tiles"]
    assert num_tokens((width, height), tile, patch) == row["num_tokens"]
    assert num_tokens((width, height), tile, patch, arithmetic="training") == row["num_tokens_cal_train"]
    places = packed_coordinates((width, height), tile, patch)
    assert len(places) == row["num_tokens"] and int((places[:, 0] < 0).sum()) == row["newlines"]


@pytest.mark.parametrize("name", [name for name in PIXELS if name.endswith("packed")])
def test_the_order_of_tokens_equals_the_originals(name):
    given, shape, _ = name.split("/")
    size = tuple(map(int, shape.split("x")))
    places = packed_coordinates(size, ROWS[given]["tile"], ROWS[given]["patch"])
    assert np.array_equal(places.numpy(), PIXELS[name])


def test_grid_and_tokens_equal_the_rule_on_all_of_40000_sizes(released_counts):
    assert len(AXIS) == 200 and (AXIS[0], AXIS[-1]) == (1, 4000)
    assert [(best_grid(size, 336), num_tokens(size)) for size in SWEEP] == released_counts
    assert {grid for grid, _ in released_counts} == set(RELEASED_GRIDS)
    assert {576, 2928} <= {tokens for _, tokens in released_counts}, "nothing but the overview, and a full map"


def test_of_canvases_that_keep_the_same_the_smaller_is_taken_and_of_equal_ones_the_first():
    assert best_grid((100, 100), 336) == (1, 2)
    assert best_grid((100, 100), 336, [(2, 1), (1, 2)]) == (2, 1)
    assert best_grid((100, 100), 336, [(2, 2), (2, 1), (1, 2)]) == (2, 1)


@pytest.mark.parametrize(("size", "inference", "training"), [((342, 608), 1968, 1872), ((15, 1080), 792, 648)])
def test_the_released_trainer_counts_in_float32(size, inference, training):
    """The first is spec 10.2's. The second differs only where, as torch does, the reciprocal is rounded by itself."""
    assert num_tokens(size) == inference
    assert num_tokens(size, arithmetic="training") == training


def test_float32_gives_another_number_at_2_of_40000_sizes():
    differ = [size for size in SWEEP if num_tokens(size) != num_tokens(size, arithmetic="training")]
    assert differ == [(342, 608), (608, 342)]


@pytest.mark.parametrize(
    ("size", "left"), [((3000, 20), (72, 0)), ((1, 4000), (0, 48)), ((100, 100), (24, 24)), ((7, 5), (24, 18))]
)
def test_margins_are_cut_alike_and_a_strip_may_be_left_with_no_row_or_no_column(size, left):
    grid = best_grid(size, 336)
    assert unpadded(size, (grid[0] * 24, grid[1] * 24)) == left


def test_packing_refuses_tiles_of_another_grid():
    with pytest.raises(ValueError, match=r"4 tiles of a picture of 30 x 30, wanted 1 \+ 1 x 2: the image processor"):
        pack(torch.zeros(4, 4, 8), torch.zeros(8), (30, 30), (1, 2))


# Pixels


@pytest.mark.parametrize("name", [name for name in PIXELS if name.endswith("tile_sample")])
def test_tiles_of_transformers_processor_equal_the_originals(name):
    given, shape, _ = name.split("/")
    tile, (width, height) = ROWS[given]["tile"], map(int, shape.split("x"))
    pinpoints = [(high, wide) for wide, high in canvases(tile)]
    pixels = plain_processor(tile, pinpoints).image_processor([synthetic(width, height)], return_tensors="np")
    tiles = pixels["pixel_values"][0]
    picked = np.arange(max(tile // 12, 1) // 2, tile, max(tile // 12, 1))
    whole = name.removesuffix("tile_sample")
    np.testing.assert_allclose(tiles[:, :, picked][:, :, :, picked], PIXELS[name], atol=1e-5, rtol=0)
    np.testing.assert_allclose(tiles.mean(axis=(2, 3)), PIXELS[whole + "tile_mean"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(tiles.std(axis=(2, 3)), PIXELS[whole + "tile_std"], atol=1e-5, rtol=0)


def synthetic(width, height):
    """The picture of golden/README.md."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red, green = 255 * x // max(width - 1, 1) + 0 * y, 255 * y // max(height - 1, 1) + 0 * x
    blue = 180 * ((x // 8 + y // 8) % 2) + (x * y % 60)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def test_tiles_equal_the_rule_to_the_bit_thin_pictures_included():
    processor = build_llava_next()[1].image_processor
    sides = [1, 2, 3, 4, 27, 28, 29, 41, 56, 57, 85, 150]
    for width in sides:
        for height in sides:
            image = picture(width, height, width + 1000 * height)
            made = processor([image], return_tensors="np")
            assert made["image_sizes"].tolist() == [[height, width]]
            assert np.array_equal(made["pixel_values"][0], literal_tiles(image, canvases(TILE), TILE)), image.size


# transformers' processor


def test_transformers_processor_as_original_counts_like_the_rule_on_all_of_40000_sizes(released_counts):
    counts = hf_counts(original_pair(336)[1], SWEEP)
    assert counts == [tokens for _, tokens in released_counts]


def test_plain_transformers_with_swapped_pinpoints_counts_otherwise_at_2_of_40000_sizes(released_counts):
    """It rounds 143.99999999999997 to 144 before it takes the whole part."""
    swapped = plain_processor(336, [(high, wide) for wide, high in canvases(336)])
    found = zip(SWEEP, hf_counts(swapped, SWEEP), released_counts, strict=True)
    differ = {size: (theirs, ours) for size, theirs, (_, ours) in found if theirs != ours}
    assert differ == {(205, 984): (1800, 1656), (984, 205): (1744, 1598)}


def test_plain_transformers_with_released_pinpoints_counts_otherwise_at_10661_of_40000_sizes(released_counts):
    """It takes 2 x 1 for 1 x 2 wherever the two tie: in every picture inside a tile, and in strips too thin to keep."""
    counts = hf_counts(plain_processor(336), SWEEP)
    differ = [size for size, theirs, (_, ours) in zip(SWEEP, counts, released_counts, strict=True) if theirs != ours]
    assert len(differ) == 10661
    as_read = [(height, width) for width, height in canvases(336)]
    grids = {
        size: (literal_tokens(*size, as_read, 336, 14)[0], ours)
        for size, (ours, _) in zip(SWEEP, released_counts, strict=True)
    }
    other = {size for size, (theirs, ours) in grids.items() if theirs != ours}
    assert len(other) == 11185 and {grids[size] for size in other} == {((2, 1), (1, 2))}
    inside = {size for size in SWEEP if max(size) <= 336}
    assert len(inside) == 11025 and inside <= other
    assert all(min(size) <= 3 and max(size) > 336 for size in other - inside)
    assert set(differ) - other == {(205, 984), (984, 205)}


def test_ids_pixels_and_packed_features_have_one_length_for_every_shape():
    model, processor = build_llava_next()
    body, sides = model.model, [1, 9, 28, 31, 56, 84, 100, 205, 342, 608, 984]
    for width in sides:
        for height in sides:
            tiles = 1 + math.prod(best_grid((width, height), TILE))
            features = torch.randn(tiles, 4, 8)
            (packed,), lengths = body.pack_image_features([features], [(height, width)], "default", torch.zeros(8))
            assert [len(packed)] == lengths.tolist() == hf_counts(processor, [(width, height)])


# The pair


def test_features_are_packed_as_transformers_packs_them_where_the_two_agree():
    processor = plain_processor(pinpoints=[(high, wide) for wide, high in canvases(TILE)])
    plain = plain_model(processor, torch.float64)
    ours = copy.deepcopy(plain)
    use_original_tiling(ours, processor)
    sizes = torch.tensor([(40, 90), (30, 30), (75, 20), (10, 300)])
    pixels = torch.randn(4, 5, 3, TILE, TILE, dtype=torch.float64)
    found = ours.get_image_features(pixels, sizes).pooler_output
    wanted = plain.get_image_features(pixels, sizes).pooler_output
    assert [len(each) for each in found] == [num_tokens((w, h), TILE) for h, w in sizes.tolist()] == [14, 24, 22, 4]
    for one, other in zip(found, wanted, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("tile", [28, 336])
def test_the_models_packing_gives_the_originals_order_of_tokens(tile):
    """Every patch carries its own place as its features."""
    body, names = (
        original_pair(tile)[0].model,
        [n for n in PIXELS if n.startswith(f"s{tile}/") and n.endswith("packed")],
    )
    sizes = [tuple(map(int, name.split("/")[1].split("x"))) for name in names]
    side, features = tile // 14, []
    for size in sizes:
        tiles = torch.arange(1 + math.prod(best_grid(size, tile)))
        places = torch.cartesian_prod(tiles, torch.arange(side), torch.arange(side))
        features.append(places.float().view(len(tiles), side**2, 3))
    heights_first = torch.tensor([(height, width) for width, height in sizes])
    packed, _ = body.pack_image_features(features, heights_first, "default", torch.full((3,), -1.0))
    for name, found in zip(names, packed, strict=True):
        assert np.array_equal(found.numpy(), PIXELS[name]), name
    assert len(names) == 8


@pytest.mark.parametrize("order", ["released", "swapped", "each another"])
def test_pinpoints_in_either_order_are_put_right_once(order):
    released, swapped = canvases(TILE), [(high, wide) for wide, high in canvases(TILE)]
    processor = plain_processor(pinpoints=released if order == "released" else swapped)
    model = plain_model(processor)
    if order == "each another":
        model.config.image_grid_pinpoints = [list(pair) for pair in released]
    for _ in range(3):
        use_original_tiling(model, processor)
        assert [tuple(pair) for pair in model.config.image_grid_pinpoints] == swapped
        assert [tuple(pair) for pair in processor.image_processor.image_grid_pinpoints] == swapped


def test_a_list_of_ones_own_is_named_by_its_grids():
    processor = plain_processor(pinpoints=[(28, 28), (28, 112), (84, 56)])
    model = plain_model(processor)
    with pytest.raises(ValueError, match=r"use_original_tiling\(..., grids=\[\(columns, rows\), ...\]\)"):
        use_original_tiling(model, processor)
    use_original_tiling(model, processor, grids=[(1, 1), (1, 4), (3, 2)])
    assert model.config.image_grid_pinpoints == [[28, 28], [112, 28], [56, 84]]
    assert hf_counts(processor, [(60, 40)]) == [num_tokens((60, 40), TILE, grids=[(1, 1), (1, 4), (3, 2)])]


def test_a_reloaded_pair_keeps_the_pinpoints_and_rounds_again_until_it_is_asked_not_to(tmp_path):
    model, processor = build_llava_next()
    # A size of which rounding makes another number at tiles of 28, found by looking.
    size = next(
        (width, height)
        for width in range(1, 400)
        for height in range(1, 400)
        if num_tokens((width, height), TILE) != rounded_tokens(width, height)
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(again) is type(processor) and type(loaded) is type(model)
    assert loaded.config.image_grid_pinpoints == model.config.image_grid_pinpoints
    assert again.image_processor.image_grid_pinpoints == processor.image_processor.image_grid_pinpoints
    assert hf_counts(again, [size]) == [rounded_tokens(*size)]
    use_original_tiling(loaded, again)
    assert hf_counts(again, [size]) == hf_counts(processor, [size]) == [num_tokens(size, TILE)]


def test_what_is_loaded_alone_follows_the_released_code_too(tmp_path):
    model, processor = build_llava_next()
    pair = plain_model(plain_processor()), plain_processor()
    for loaded in pair:
        use_original_tiling_if_released(loaded)
    assert pair[0].config.image_grid_pinpoints == model.config.image_grid_pinpoints
    assert pair[1].image_processor.image_grid_pinpoints == processor.image_processor.image_grid_pinpoints
    sizes = [(20, 20), (120, 30), (205, 984)]
    assert hf_counts(pair[1], sizes) == hf_counts(processor, sizes) == [num_tokens(size, TILE) for size in sizes]
    assert pair[0].model.pack_image_features.func is model.model.pack_image_features.func


def test_a_model_with_a_list_of_its_own_is_left_as_transformers_reads_it():
    processor = plain_processor(pinpoints=[(28, 28), (28, 112)])
    model = plain_model(processor)
    for loaded in (model, processor, processor.tokenizer):
        use_original_tiling_if_released(loaded)
    assert model.config.image_grid_pinpoints == [[28, 28], [28, 112]]
    assert "pack_image_features" not in model.model.__dict__
    assert "_get_unpadded_features" not in processor.__dict__


def rounded_tokens(width, height):
    """Tokens at tiles of 28 if the part is rounded to seven digits before it is cut, as in transformers."""
    columns, rows = (2 * count for count in best_grid((width, height), TILE))
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    return 4 + rows * columns + rows


def test_copies_of_a_pair_follow_the_rule_by_themselves():
    model, processor = build_llava_next(arithmetic="training")
    twin, again = copy.deepcopy(model), copy.deepcopy(processor)
    assert twin.model.pack_image_features.args[0] is twin.model
    assert hf_counts(again, [(342, 608)]) == [num_tokens((342, 608), TILE, arithmetic="training")]


@pytest.mark.parametrize(
    ("holder", "name", "value", "message"),
    [
        ("processor", "patch_size", 7, "patch_size of the processor is 7, wanted 14"),
        ("processor", "num_additional_image_tokens", 0, "num_additional_image_tokens of the processor is 0, wanted 1"),
        ("processor", "vision_feature_select_strategy", "full", "of the processor is 'full', wanted 'default'"),
        ("config", "vision_feature_select_strategy", "full", "of the model is 'full', wanted 'default'"),
        ("images", "crop_size", {"height": 56, "width": 56}, "crop_size of the image processor is 56, wanted 28"),
        ("images", "size", {"shortest_edge": 56}, "size of the image processor is 56, wanted 28"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(holder, name, value, message):
    model, processor = build_llava_next()
    setattr({"processor": processor, "config": model.config, "images": processor.image_processor}[holder], name, value)
    with pytest.raises(ValueError, match=message):
        use_original_tiling(model, processor)


def test_other_models_and_processors_are_refused():
    model, processor = build_llava_next()
    with pytest.raises(TypeError, match="model: got LlavaNextModel, wanted LlavaNextForConditionalGeneration; unwrap"):
        use_original_tiling(model.model, processor)
    with pytest.raises(TypeError, match="processor: got LlavaNextImageProcessorPil, wanted LlavaNextProcessor"):
        use_original_tiling(model, processor.image_processor)
    processor.image_processor = CLIPImageProcessorPil()
    with pytest.raises(TypeError, match=r"image processor: got CLIPImageProcessorPil.*backend='pil'"):
        use_original_tiling(model, processor)
