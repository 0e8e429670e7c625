"""Scenes: lines of signs, printed words, numbers, shapes, codes and charts, drawn at random.

A scene knows everything in its picture, so every word about it can be checked.
"""

import random
from dataclasses import dataclass

from contralign.data.sets.scenes.glyphs import named_glyphs
from contralign.data.sets.scenes.scene_difficulty import ASPECTS, GRID, ONE_CELL, Aspect, Difficulty, Thing
from contralign.data.sets.scenes.scene_words import (
    BAR_COUNTS,
    CODE_CHARACTERS,
    COLOURS,
    COLUMNS,
    COUNTS,
    HEIGHTS,
    NUMBERS,
    PRINTED_WORDS,
    SHAPES,
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot for one word about an item: what the word tells, and all its possible values."""

    tells: Aspect
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing in a picture.

    Attributes:
        thing: what it is.
        words: what there is to say about it: a sign ("red", "terobi"), a printed word ("printed", "lamp"), a number
            ("number", "47"), shapes ("three", "blue", "circles"), a code ("code", "k", "7", "q"), a chart ("two",
            "teal", "bars", "3", "5").
        colour: name of the ink, a key of `COLOURS`; the words tell it of signs, shapes and charts alone.
        row: line of the grid, from the top.
        column: leftmost cell of its `width`.
    """

    thing: Thing
    words: tuple[str, ...]
    colour: str
    row: int
    column: int

    @property
    def width(self) -> int:
        """Cells from left to right: one for every character of a code and bar of a chart, two for a printed word."""
        return _width(self.thing, self.words)


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture shows: its items from the top line down, and the colour of the paper."""

    items: tuple[Item, ...]
    paper: tuple[int, int, int]


def count_of(item: Item) -> int:
    """How many shapes or bars the words of an item tell."""
    return COUNTS.index(item.words[0]) + 2


def thing_slots(thing: Thing, difficulty: Difficulty) -> tuple[Slot, ...]:
    """A slot for every word of `Item.words`; of a chart, for as many bars as there may be."""
    match thing:
        case "sign":
            words = (tuple(COLOURS), tuple(glyph.name for glyph in named_glyphs(difficulty.glyphs)))
        case "word":
            words = (("printed",), PRINTED_WORDS)
        case "number":
            words = (("number",), NUMBERS)
        case "shapes":
            words = (COUNTS[: difficulty.counts - 1], tuple(COLOURS), SHAPES)
        case "code":
            words = (("code",), *[CODE_CHARACTERS] * difficulty.code_length)
        case "chart":
            words = (BAR_COUNTS, tuple(COLOURS), ("bars",), *[HEIGHTS] * (len(BAR_COUNTS) + 1))
    aspects = ASPECTS[thing] + ("name",) * (len(words) - len(ASPECTS[thing]))
    return tuple(Slot(*pair) for pair in zip(aspects, words, strict=True))


def item_slots(item: Item, difficulty: Difficulty) -> tuple[tuple[str, Slot], ...]:
    """Every word that is said of an item, its column last where positions are told, each with its slot."""
    said = list(zip(item.words, thing_slots(item.thing, difficulty), strict=False))  # a chart of few bars: fewer words
    if difficulty.positions:
        said.append((COLUMNS[item.column], Slot("position", COLUMNS[: GRID - item.width + 1])))
    return tuple(said)


def draw_scene(rng: random.Random, difficulty: Difficulty) -> Scene:
    """A random scene: in every line one of the things, in a random column and ink."""
    paper = (rng.randrange(225, 256), rng.randrange(225, 256), rng.randrange(225, 256))
    return Scene(tuple(draw_item(rng, row, difficulty) for row in range(difficulty.items)), paper)


def draw_item(rng: random.Random, row: int, difficulty: Difficulty) -> Item:
    """A random item for a line."""
    thing = rng.choice(difficulty.things)
    words = tuple(rng.choice(slot.words) for slot in thing_slots(thing, difficulty))
    if thing == "chart":
        words = words[: 3 + COUNTS.index(words[0]) + 2]
    told = [word for word in words if word in COLOURS]
    colour = told[0] if told else rng.choice(tuple(COLOURS))
    column = rng.randrange(GRID - _width(thing, words) + 1)
    return Item(thing=thing, words=words, colour=colour, row=row, column=column)


def draw_absent(rng: random.Random, there: Item, scene: Scene, difficulty: Difficulty) -> Item:
    """An item that is not in the scene, for the line of one that is: of `there`, no word of several choices is true."""
    told = {(slot.tells, word) for word, slot in item_slots(there, difficulty)}
    while True:
        item = draw_item(rng, there.row, difficulty)
        said = {(slot.tells, word) for word, slot in item_slots(item, difficulty) if len(slot.words) > 1}
        if not told & said and all(item.words != other.words for other in scene.items):
            return item


def _width(thing: Thing, words: tuple[str, ...]) -> int:
    match thing:
        case "sign" | "number":
            return 1
        case "word":
            return 2
        case "shapes":
            return 1 if COUNTS.index(words[0]) + 2 <= ONE_CELL else 2
        case "code":
            return len(words) - 1
        case "chart":
            return COUNTS.index(words[0]) + 2
