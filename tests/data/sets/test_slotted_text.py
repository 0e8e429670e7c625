import pytest

from contralign.data.sets.slotted_text import fill


def test_slots_are_visual_and_every_other_word_and_mark_is_filler():
    text, spans = fill("the {name}, on {colour}.", {"name": "polar bear", "colour": "red"}, turn=3)
    assert text == "the polar bear, on red."
    found = [(span.turn, text[span.start : span.end], span.kind) for span in spans]
    kinds = {"polar bear": "visual", "red": "visual"}
    assert found == [(3, word, kinds.get(word, "filler")) for word in ("the", "polar bear", ",", "on", "red", ".")]


def test_what_is_put_in_is_not_read_as_a_template():
    text, (name, stop) = fill("{name}.", {"name": "{colour}"})
    assert text == "{colour}." and name.kind == "visual" and stop.kind == "filler"


def test_a_slot_without_text_is_refused():
    with pytest.raises(KeyError, match="name"):
        fill("the {name}.", {})
