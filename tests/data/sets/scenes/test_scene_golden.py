"""The samples of every setting that recipes in the repository and recorded results use stay as they were."""

import hashlib

import pytest

from contralign.data.sets.scenes.scenes import scenes

DEMO = {"items": 4, "glyphs": 300, "things": ["sign", "sign", "number", "shapes"], "task": "mixed", "fillers": 2}

PINNED = [
    ("train", 40, {}, "2a70c50df814dd8c"),
    ("heldout", 40, {"seed": 3, "task": "list", "fillers": 0, "things": ["word", "number"]}, "5f27024d195159ff"),
    ("train", 40, {"task": "question", "rounds": 3, "contradictions": 0.5, "filler_choices": 5}, "fccfc9f73dd7df4c"),
    ("heldout", 20, {"things": ["shapes"], "items": 1, "fillers": 5, "contradictions": 1.0}, "7d2cbe340480f091"),
    ("train", 60, DEMO | {"seed": 2}, "068d642c17e24f95"),
    ("heldout", 60, DEMO, "018d71b560d4b98c"),
    ("train", 40, DEMO | {"seed": 7}, "2154254d7356adfe"),
    ("train", 60, DEMO | {"seed": 1, "task": "list", "fillers": 0}, "2e0ce629dbb89cc3"),
    ("train", 40, DEMO | {"seed": 4, "fillers": 1}, "d33b2ae3e886c4aa"),
]
"""Split, count, settings, and the digest before scenes could be made harder; the last five are of tiny/demo.yaml."""


def digest(samples):
    total = hashlib.sha256()
    for sample in samples:
        spans = [(span.turn, span.start, span.end, span.kind) for span in sample.spans]
        turns = [(turn.role, turn.text) for turn in sample.turns]
        total.update(repr((sample.id, sample.source, turns, spans)).encode())
        for picture in sample.pictures:
            total.update(repr((picture.mode, picture.size)).encode() + picture.tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize(("split", "count", "settings", "pinned"), PINNED)
def test_samples_are_what_they_were(split, count, settings, pinned):
    assert digest(scenes(split, count, **settings)) == pinned
