import random

import numpy as np
import pytest

from contralign.data.sets.glyphs import letter_bitmap, named_glyphs
from contralign.data.sets.scene_picture import CELL, GRID, PICTURE_SIDE, Item, Scene, draw_scene, paint, word_choices
from contralign.data.sets.scene_words import COLOURS, COUNTS, SHAPES

THINGS = ("sign", "word", "number", "shapes")


def cell(picture, row, column, width=1):
    return np.asarray(picture)[row * CELL : (row + 1) * CELL, column * CELL : (column + width) * CELL]


def inked(pixels, colour):
    return (pixels == COLOURS[colour]).all(axis=-1)


def read_dots(ink, left, top, rows, columns, dot):
    """The bitmap that was stamped at (left, top), read back from the middle of every dot."""
    middle = dot // 2
    return tuple(
        "".join(str(int(ink[top + y * dot + middle, left + x * dot + middle])) for x in range(columns))
        for y in range(rows)
    )


def scenes_of(thing, count=40):
    return [draw_scene(random.Random(n), (thing,), GRID, glyphs=300) for n in range(count)]


def test_a_sign_in_the_picture_is_the_sign_of_that_name_in_that_colour():
    by_bitmap = {glyph.bitmap: glyph.name for glyph in named_glyphs(300)}
    for scene in scenes_of("sign"):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column), item.words[0])
            assert by_bitmap[read_dots(ink, 0, 0, 5, 5, 3)] == item.words[1]


@pytest.mark.parametrize("thing", ["word", "number"])
def test_letters_and_digits_in_the_picture_spell_the_word(thing):
    by_bitmap = {letter_bitmap(character): character for character in "abcdefghijklmnopqrstuvwxyz0123456789"}
    for scene in scenes_of(thing):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column, width=2), item.colour)
            spelt = [by_bitmap[read_dots(ink, 1 + 8 * n, 3, 5, 3, 2)] for n in range(len(item.words[1]))]
            assert "".join(spelt) == item.words[1]


def test_shapes_in_the_picture_have_the_number_and_colour_that_is_told():
    for scene in scenes_of("shapes"):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column), item.words[1])
            quarters = ink.reshape(2, CELL // 2, 2, CELL // 2).any(axis=(1, 3))
            assert quarters.sum() == COUNTS.index(item.words[0]) + 2


def test_the_four_shapes_look_different():
    def ink(shape):
        item = Item(thing="shapes", words=("two", "red", shape), colour="red", row=1, column=2)
        return inked(cell(paint(Scene((item,), (240, 240, 240))), 1, 2), "red")

    looks = [ink(shape) for shape in SHAPES]
    assert min((a != b).sum() for n, a in enumerate(looks) for b in looks[:n]) >= 10


def test_nothing_is_painted_outside_of_the_items_cells():
    for thing in THINGS:
        for scene in scenes_of(thing, count=10):
            pixels = np.asarray(paint(scene)).copy()
            assert pixels.shape == (PICTURE_SIDE, PICTURE_SIDE, 3)
            for item in scene.items:
                width = 2 if thing == "word" else 1
                rows, columns = slice(item.row * CELL, (item.row + 1) * CELL), slice(item.column * CELL, None)
                pixels[rows, columns][:, : width * CELL] = scene.paper
            assert (pixels == scene.paper).all()


@pytest.mark.parametrize("thing", THINGS)
def test_an_item_is_told_in_words_of_its_choices(thing):
    choices = word_choices(thing, glyphs=300)
    for scene in scenes_of(thing):
        for item in scene.items:
            assert len(item.words) == len(choices)
            assert all(word in words for word, words in zip(item.words, choices, strict=True))


def test_lines_are_filled_from_the_top():
    scene = draw_scene(random.Random(0), THINGS, 3, glyphs=10)
    assert [item.row for item in scene.items] == [0, 1, 2]
