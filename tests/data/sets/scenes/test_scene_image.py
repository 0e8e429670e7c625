import random
from dataclasses import replace

import numpy as np
import pytest

from contralign.data.sets.scenes.glyphs import letter_bitmap, named_glyphs
from contralign.data.sets.scenes.scene_difficulty import Difficulty
from contralign.data.sets.scenes.scene_image import CELL, GRID, PICTURE_SIDE, paint
from contralign.data.sets.scenes.scene_items import Item, Scene, draw_scene, item_slots, thing_slots
from contralign.data.sets.scenes.scene_words import CODE_CHARACTERS, COLOURS, COLUMNS, COUNTS, SHAPES

THINGS = ("sign", "word", "number", "shapes", "code", "chart")


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


def scenes_of(thing, count=40, **settings):
    difficulty = Difficulty(things=[thing], items=GRID, glyphs=300, **settings)
    return [draw_scene(random.Random(n), difficulty) for n in range(count)]


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


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_cell_of_a_code_holds_one_character(length):
    by_bitmap = {letter_bitmap(character): character for character in CODE_CHARACTERS}
    seen = set()
    for scene in scenes_of("code", code_length=length):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column, width=length), item.colour)
            spelt = tuple(by_bitmap[read_dots(ink, 3 + CELL * n, 0, 5, 3, 3)] for n in range(length))
            assert ("code", *spelt) == item.words
            seen.update(spelt)
    assert seen == set(CODE_CHARACTERS)


def test_shapes_in_the_picture_have_the_number_and_colour_that_is_told():
    for scene in scenes_of("shapes"):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column), item.words[1])
            quarters = ink.reshape(2, CELL // 2, 2, CELL // 2).any(axis=(1, 3))
            assert quarters.sum() == COUNTS.index(item.words[0]) + 2


def test_more_than_four_shapes_are_counted_in_two_cells():
    seen = set()
    for scene in scenes_of("shapes", counts=8):
        picture = paint(scene)
        for item in scene.items:
            ink = inked(cell(picture, item.row, item.column, width=2), item.words[1])
            parts = ink.reshape(2, CELL // 2, -1, CELL // 2).any(axis=(1, 3))
            seen.add((item.words[0], parts[:, : 2 * item.width].sum()))
    assert seen == {(word, number) for number, word in enumerate(COUNTS, start=2)}


def test_bars_in_the_picture_have_the_heights_number_and_colour_that_are_told():
    numbers = set()
    for scene in scenes_of("chart"):
        picture = paint(scene)
        for item in scene.items:
            count, colour, label, *heights = item.words
            ink = inked(cell(picture, item.row, item.column, width=GRID), colour)
            tops = [ink[:, n : n + CELL].sum() / 12 / 2 for n in range(0, ink.shape[1], CELL)]
            assert label == "bars"
            assert [str(int(top)) for top in tops if top] == heights
            assert len(heights) == COUNTS.index(count) + 2
            numbers.add(len(heights))
    assert numbers == {2, 3, 4}


def test_the_four_shapes_look_different():
    def ink(shape):
        item = Item(thing="shapes", words=("two", "red", shape), colour="red", row=1, column=2)
        return inked(cell(paint(Scene((item,), (240, 240, 240))), 1, 2), "red")

    looks = [ink(shape) for shape in SHAPES]
    assert min((a != b).sum() for n, a in enumerate(looks) for b in looks[:n]) >= 10


def test_nothing_is_painted_outside_of_the_items_cells():
    for thing in THINGS:
        for scene in scenes_of(thing, count=10):
            widths = {"word": {2}, "code": {3}, "chart": {2, 3, 4}}.get(thing, {1})
            assert {item.width for item in scene.items} <= widths
            pixels = np.asarray(paint(scene)).copy()
            assert pixels.shape == (PICTURE_SIDE, PICTURE_SIDE, 3)
            for item in scene.items:
                rows, columns = slice(item.row * CELL, (item.row + 1) * CELL), slice(item.column * CELL, None)
                pixels[rows, columns][:, : item.width * CELL] = scene.paper
            assert (pixels == scene.paper).all()


@pytest.mark.parametrize("thing", THINGS)
def test_another_word_is_another_picture(thing):
    difficulty = Difficulty(things=[thing], glyphs=20, counts=8 if thing == "shapes" else 4)
    rng = random.Random(1)
    for scene in scenes_of(thing, count=5):
        item = scene.items[0]
        for place, slot in enumerate(thing_slots(thing, difficulty)[: len(item.words)]):
            if thing == "chart" and place == 0:
                continue  # another number of bars has other words after it: see the test of bars
            for word in rng.sample(slot.words, min(len(slot.words), 9)):
                if word != item.words[place]:
                    words = (*item.words[:place], word, *item.words[place + 1 :])
                    colour = word if word in COLOURS else item.colour
                    other = replace(item, words=words, colour=colour, column=0)
                    here = replace(item, column=0)
                    assert paint(Scene((other,), scene.paper)).tobytes() != paint(Scene((here,), scene.paper)).tobytes()


@pytest.mark.parametrize("thing", THINGS)
def test_another_column_is_another_picture(thing):
    difficulty = Difficulty(things=[thing], positions=True)
    for scene in scenes_of(thing, count=5):
        for item in scene.items:
            word, slot = item_slots(item, difficulty)[-1]
            assert word == COLUMNS[item.column] and len(slot.words) == GRID - item.width + 1
            moved = [replace(item, column=COLUMNS.index(other)) for other in slot.words]
            assert len({paint(Scene((one,), scene.paper)).tobytes() for one in moved}) == len(slot.words)
