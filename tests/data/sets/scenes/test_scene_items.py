import random
from collections import Counter

import pytest

from contralign.data.sets.scenes.scene_difficulty import GRID, Difficulty
from contralign.data.sets.scenes.scene_items import draw_absent, draw_item, draw_scene, item_slots, thing_slots

THINGS = ("sign", "word", "number", "shapes", "code", "chart")


@pytest.mark.parametrize("thing", THINGS)
def test_an_item_is_told_in_words_of_its_slots(thing):
    difficulty = Difficulty(things=[thing], glyphs=300)
    slots = thing_slots(thing, difficulty)
    longest = 0
    for seed in range(60):
        item = draw_item(random.Random(seed), 0, difficulty)
        assert all(word in slot.words for word, slot in zip(item.words, slots, strict=False))
        assert len(item.words) == len(slots) or thing == "chart"
        longest = max(longest, len(item.words))
    assert longest == len(slots)


def test_a_slot_tells_what_its_words_are():
    tells = {thing: [slot.tells for slot in thing_slots(thing, Difficulty())] for thing in THINGS}
    assert tells == {
        "sign": ["colour", "name"],
        "word": ["label", "name"],
        "number": ["label", "name"],
        "shapes": ["count", "colour", "name"],
        "code": ["label", "name", "name", "name"],
        "chart": ["count", "colour", "label", "name", "name", "name", "name"],
    }


def test_lines_are_filled_from_the_top_and_items_stay_on_the_grid():
    difficulty = Difficulty(things=THINGS, items=3, counts=8)
    ends = set()
    for seed in range(100):
        scene = draw_scene(random.Random(seed), difficulty)
        assert [item.row for item in scene.items] == [0, 1, 2]
        ends |= {item.column + item.width for item in scene.items}
    assert max(ends) == GRID


def test_counts_are_two_to_the_most_that_is_set():
    difficulty = Difficulty(things=["shapes"], counts=6)
    told = Counter(draw_item(random.Random(seed), 0, difficulty).words[0] for seed in range(300))
    assert set(told) == {"two", "three", "four", "five", "six"}


@pytest.mark.parametrize("things", [[thing] for thing in THINGS] + [THINGS])
def test_an_absent_item_is_in_no_line_and_none_of_its_open_words_is_true_of_its_own(things):
    difficulty = Difficulty(things=things, items=4, glyphs=2, positions=True, counts=3 if "shapes" in things else 4)
    for seed in range(40):
        rng = random.Random(seed)
        scene = draw_scene(rng, difficulty)
        there = scene.items[seed % 4]
        absent = draw_absent(rng, there, scene, difficulty)
        assert absent.row == there.row
        assert absent.words not in [item.words for item in scene.items]
        true = {(slot.tells, word) for word, slot in item_slots(there, difficulty)}
        said = {(slot.tells, word) for word, slot in item_slots(absent, difficulty) if len(slot.words) > 1}
        assert said and not said & true
