"""Shapes: defaults, what fits together, which image token counts there are, and the floor."""

import pytest

from contralign.bench.shapes import NAMED_SHAPES, anyres_tiles, default_prefix, named_shape, square_side


def test_llava15_has_llama_s_proportions_and_vicuna_s_prefix():
    shape = named_shape("llava15")
    assert (shape.hidden, shape.layers, shape.intermediate) == (512, 8, 1376)
    assert (shape.image_tokens, shape.text_tokens, shape.label_tokens, shape.prefix) == (576, 128, 64, 35)
    assert named_shape("llava15", hidden=4096, layers=32, heads=32).intermediate == 11008


@pytest.mark.parametrize("name", NAMED_SHAPES)
def test_every_named_shape_is_valid_and_says_what_it_is(name):
    shape = named_shape(name)
    assert f"{shape.image_tokens} image + {shape.text_tokens} text" in shape.describe()
    assert "of text alone" in named_shape(name, text_only_rows=1).describe()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden": 0}, "hidden=0: wanted 1 or more"),
        ({"hidden": 100}, "wanted a multiple of twice the heads"),
        ({"vocabulary": 7}, "vocabulary=7: wanted 8 or more"),
        ({"prefix": 0}, "prefix=0: wanted 1 or more"),
        ({"prefix": 65}, "prefix=65 and label_tokens=64 do not fit into text_tokens=128"),
        ({"text_only_rows": 2}, "text_only_rows=2 of batch=2: wanted 0 to 1"),
        ({"text_only_rows": -1}, "wanted 0 to 1"),
        ({"dtype": "float8"}, "wanted one of float32, bfloat16"),
        ({"image_tokens": 577}, r"wanted 576 \(24 x 24\) or 625 \(25 x 25\)"),
        ({"image_tokens": 0}, "image_tokens=0: wanted 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(overrides, message):
    with pytest.raises(ValueError, match=message):
        named_shape("llava15", **overrides)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'llava16' is no named shape: wanted one of llava15, llava_next, tiny"):
        named_shape("llava16")


def test_the_floor_is_text_over_three_or_four_times_all_tokens():
    assert named_shape("llava15").floor == pytest.approx(128 / (3 * 704))
    assert named_shape("llava15", checkpointing=True).floor == pytest.approx(128 / (4 * 704))
    assert named_shape("llava15", image_tokens=2304).floor == pytest.approx(128 / (3 * 2432))


def test_rows_of_text_alone_pay_nothing_of_the_floor():
    whole, half = named_shape("llava15", batch=4), named_shape("llava15", batch=4, text_only_rows=2)
    assert half.floor == pytest.approx(whole.floor / 2)


@pytest.mark.parametrize(("text", "labels", "prefix"), [(128, 64, 35), (20, 19, 1), (1, 1, 1), (4, 2, 1)])
def test_the_default_prefix_is_at_least_a_bos_and_leaves_room_for_the_labels(text, labels, prefix):
    assert default_prefix(text, labels) == prefix


def test_llava15_takes_squares():
    assert [square_side(count) for count in (1, 576, 2304)] == [1, 24, 48]


@pytest.mark.parametrize(
    ("count", "tiles"), [(1752, (24, 1, 2)), (1776, (24, 2, 1)), (2928, (24, 2, 2)), (7, (1, 2, 2))]
)
def test_llava_next_takes_what_tiles_and_newlines_add_up_to(count, tiles):
    assert anyres_tiles(count) == tiles


def test_a_count_that_anyres_does_not_give_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match=r"990 \(1 x 2 tiles of 18 x 18\) or 1008 \(2 x 2 tiles of 14 x 14\)") as told:
        anyres_tiles(1000)
    assert "2928 (2 x 2 tiles of 24 x 24)" in str(told.value)
    with pytest.raises(ValueError, match="wanted 4 "):
        anyres_tiles(1)
    with pytest.raises(ValueError, match="is no number that anyres gives"):
        anyres_tiles(10**6)
