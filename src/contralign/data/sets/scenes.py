"""`scenes`: an endless, repeatable set of pictures and texts in which the kind of every word is known.

Δ is scored on it, and ablations run on it. A visual word of few choices can give only a small Δ (8 colours: ln 8 = 2.1
nats), so that the clamp to [1, 5] hardly varies; names of signs (ln 256 = 5.5), printed words (5.5) and numbers (4.5)
are there to let weights differ.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from contralign.data.messages import Sample
from contralign.data.sets.glyphs import named_glyphs
from contralign.data.sets.scene_picture import GRID, Scene, Thing, draw_scene, paint
from contralign.data.sets.scene_text import Manner, caption, questions, short_list

Split = Literal["train", "heldout"]
Task = Literal["list", "caption", "question", "mixed"]

HELDOUT_SHARE = 5
"""One in so many combinations of words is held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """How much a scene shows, and how it is talked about.

    Attributes:
        things: what the lines of a picture may hold; name one twice to see it twice as often.
        items: lines a picture has, 1 to 4.
        glyphs: signs in use, 2 to 600.
        task: "list" (bare names, most to see for the fewest tokens), "caption" (a sentence a line), "question", or
            "mixed" (caption or question, by the toss of a coin).
        rounds: questions about one picture; each is about another line.
        fillers: sentences in an answer that no picture can tell.
        filler_choices: different words in every open place of them, at most; 1 makes them predictable.
        contradictions: chance that the mention of an item has one word that the picture refutes.

    Raises:
        ValueError: a setting is out of its range.
    """

    things: Sequence[Thing] = ("sign", "word", "number", "shapes")
    items: int = 3
    glyphs: int = 256
    task: Task = "caption"
    rounds: int = 1
    fillers: int = 2
    filler_choices: int = 200
    contradictions: float = 0.0

    def __post_init__(self) -> None:
        named_glyphs(self.glyphs)
        unknown = [thing for thing in self.things if thing not in get_args(Thing)]
        if unknown or not self.things:
            raise ValueError(f"things={list(self.things)}: wanted one or more of {', '.join(get_args(Thing))}")
        if not 1 <= self.items <= GRID:
            raise ValueError(f"items={self.items}: wanted 1 to {GRID}, one a line")
        if self.task not in get_args(Task):
            raise ValueError(f"task={self.task!r}: wanted one of {', '.join(get_args(Task))}")
        if not 1 <= self.rounds <= self.items:
            raise ValueError(f"rounds={self.rounds}: wanted 1 to items ({self.items}), a line for every question")
        if self.rounds > 1 and self.task in ("list", "caption"):
            raise ValueError(f"rounds={self.rounds} has no effect on task={self.task!r}; set question or mixed")
        if self.fillers < 0 or self.filler_choices < 1:
            raise ValueError(
                f"fillers={self.fillers}, filler_choices={self.filler_choices}: wanted 0 or more, and 1 or more"
            )
        if not 0 <= self.contradictions <= 1:
            raise ValueError(f"contradictions={self.contradictions}: wanted a chance, 0 to 1")


def scenes(split: Split, count: int, seed: int = 0, **difficulty) -> list[Sample]:
    """The first `count` samples of an endless list that depends on nothing but the other arguments.

    No combination of an answer's words is in both splits, whatever the seeds: see `fold`.

    Args:
        split: "train" or "heldout".
        count: how many; a longer list begins with the shorter one.
        seed: another seed gives another list.
        difficulty: fields of `Difficulty`.

    Raises:
        ValueError: an unknown split, a negative count, or a difficulty out of range.
        TypeError: a difficulty that there is no name for.
    """
    return [sample for sample, _ in scenes_with_truth(split, count, seed, **difficulty)]


def scenes_with_truth(split: Split, count: int, seed: int = 0, **difficulty) -> Iterator[tuple[Sample, Scene]]:
    """The samples of `scenes`, each with all that its picture shows."""
    settings = Difficulty(**difficulty)
    if split not in get_args(Split):
        raise ValueError(f"split={split!r}: wanted one of {', '.join(get_args(Split))}")
    if count < 0:
        raise ValueError(f"count={count}: wanted 0 or more")
    return (_make(split, number, seed, settings) for number in range(count))


def fold(scene: Scene) -> Split:
    """The split that a scene belongs to: a hash of the words of all its items decides."""
    words = " ".join(word for item in scene.items for word in item.words)
    return "heldout" if zlib.crc32(words.encode()) % HELDOUT_SHARE == 0 else "train"


def _make(split: Split, number: int, seed: int, settings: Difficulty) -> tuple[Sample, Scene]:
    rng = random.Random(f"scenes {seed} {split} {number}")
    scene = draw_scene(rng, settings.things, settings.items, settings.glyphs)
    while fold(scene) != split:
        scene = draw_scene(rng, settings.things, settings.items, settings.glyphs)
    manner = Manner(
        fillers=settings.fillers,
        filler_choices=settings.filler_choices,
        contradictions=settings.contradictions,
        glyphs=settings.glyphs,
    )
    task = rng.choice(("caption", "question")) if settings.task == "mixed" else settings.task
    match task:
        case "list":
            turns, spans = short_list(scene, manner, rng)
        case "caption":
            turns, spans = caption(scene, manner, rng)
        case _:
            turns, spans = questions(scene, settings.rounds, manner, rng)
    name = f"scenes/{split}/{seed}/{number}"
    return Sample(name, turns, (paint(scene),), spans, source=f"scenes/{split}"), scene
