"""What a scene is, and how it is painted: lines of signs, printed words, numbers and little shapes.

The picture is a grid of 4 x 4 cells of 16 pixels, one item a line. A scene knows all that its picture shows, so every
word about it can be checked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from contralign.data.sets.glyphs import Bitmap, glyph_bitmap, letter_bitmap, named_glyphs
from contralign.data.sets.scene_words import COLOURS, COUNTS, NUMBERS, PRINTED_WORDS, SHAPES

CELL = 16
"""Pixels of a cell: the patch size that suits a vision tower best, or a multiple of it."""

GRID = 4
PICTURE_SIDE = GRID * CELL

Thing = Literal["sign", "word", "number", "shapes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing in a picture.

    Attributes:
        thing: what it is.
        words: what there is to say about it: a sign ("red", "terobi"), a printed word ("printed", "lamp"), a number
            ("number", "47"), shapes ("three", "blue", "circles").
        colour: name of the ink, a key of `COLOURS`; the words tell it of signs and shapes alone.
        row: line of the grid, from the top.
        column: leftmost cell; a printed word fills two, everything else one.
    """

    thing: Thing
    words: tuple[str, ...]
    colour: str
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture shows: its items from the top line down, and the colour of the paper."""

    items: tuple[Item, ...]
    paper: tuple[int, int, int]


def word_choices(thing: Thing, glyphs: int) -> tuple[tuple[str, ...], ...]:
    """For every word of `Item.words`, all the words that could stand in its place."""
    match thing:
        case "sign":
            return tuple(COLOURS), tuple(glyph.name for glyph in named_glyphs(glyphs))
        case "word":
            return ("printed",), PRINTED_WORDS
        case "number":
            return ("number",), NUMBERS
        case "shapes":
            return COUNTS, tuple(COLOURS), SHAPES


def draw_scene(rng: random.Random, things: Sequence[Thing], items: int, glyphs: int) -> Scene:
    """A random scene of `items` lines, each with one of `things` in a random column and ink."""
    paper = (rng.randrange(225, 256), rng.randrange(225, 256), rng.randrange(225, 256))
    return Scene(tuple(_draw_item(rng, rng.choice(things), row, glyphs) for row in range(items)), paper)


def paint(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, `PICTURE_SIDE` pixels square."""
    picture = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), scene.paper)
    pen = ImageDraw.Draw(picture)
    for item in scene.items:
        left, top, ink = item.column * CELL, item.row * CELL, COLOURS[item.colour]
        match item.thing:
            case "sign":
                _stamp(pen, glyph_bitmap(item.words[-1]), left, top, dot=3, ink=ink)
            case "shapes":
                _paint_shapes(pen, item, left, top, ink)
            case "word" | "number":
                for place, character in enumerate(item.words[-1]):
                    _stamp(pen, letter_bitmap(character), left + 1 + place * CELL // 2, top + 3, dot=2, ink=ink)
    return picture


def _draw_item(rng: random.Random, thing: Thing, row: int, glyphs: int) -> Item:
    words = tuple(rng.choice(choices) for choices in word_choices(thing, glyphs))
    told = [word for word in words if word in COLOURS]
    colour = told[0] if told else rng.choice(tuple(COLOURS))
    column = rng.randrange(GRID - 1 if thing == "word" else GRID)
    return Item(thing=thing, words=words, colour=colour, row=row, column=column)


def _stamp(pen: ImageDraw.ImageDraw, bitmap: Bitmap, left: int, top: int, dot: int, ink: tuple[int, int, int]) -> None:
    for y, row in enumerate(bitmap):
        for x, bit in enumerate(row):
            if bit == "1":
                corner = (left + x * dot, top + y * dot)
                pen.rectangle((*corner, corner[0] + dot - 1, corner[1] + dot - 1), fill=ink)


def _paint_shapes(pen: ImageDraw.ImageDraw, item: Item, left: int, top: int, ink: tuple[int, int, int]) -> None:
    count = COUNTS.index(item.words[0]) + 2
    half = CELL // 2
    for place in range(count):
        x, y = left + place % 2 * half, top + place // 2 * half
        match item.words[-1]:
            case "circles":
                pen.ellipse((x, y, x + 6, y + 6), fill=ink)
            case "squares":
                pen.rectangle((x, y, x + 6, y + 6), fill=ink)
            case "triangles":
                pen.polygon(((x + 3, y), (x + 6, y + 6), (x, y + 6)), fill=ink)
            case "crosses":
                pen.line((x + 1, y + 1, x + 6, y + 6), fill=ink, width=2)
                pen.line((x + 1, y + 6, x + 6, y + 1), fill=ink, width=2)
