"""What is said about a scene: captions and answers in which the kind of every word is known.

A text is put together of marked words, and the spans are read off while it is joined.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from contralign.data.messages import IMAGE, Span, SpanKind, Turn
from contralign.data.sets.scene_picture import Item, Scene, word_choices
from contralign.data.sets.scene_words import (
    ASKED_TO_DESCRIBE,
    ASKED_TO_LIST,
    LINES,
    MONTHS,
    NUMBERS,
    OPINIONS,
    PEOPLE,
    PLACES,
    SHOWING,
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or the full stop of a sentence, with its kind."""

    text: str
    kind: SpanKind


Sentence = tuple[Word, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How scenes are talked about.

    Attributes:
        fillers: sentences an answer carries that have nothing to do with the picture.
        filler_choices: different words in every open place of such a sentence, at most: ln of it is the entropy.
        contradictions: chance that the mention of an item has one word that the picture refutes.
        glyphs: signs in use; a false name is one of theirs.
    """

    fillers: int
    filler_choices: int
    contradictions: float
    glyphs: int


def caption(scene: Scene, manner: Manner, rng: random.Random) -> tuple[tuple[Turn, ...], tuple[Span, ...]]:
    """A request to describe the picture, and the description: the lines from the top, fillers in between."""
    told = [_line(item, manner, rng) for item in scene.items]
    text, spans = _join(_mix(told, manner, rng), turn=1)
    return (Turn("user", f"{IMAGE}\n{rng.choice(ASKED_TO_DESCRIBE)}"), Turn("assistant", text)), spans


def short_list(scene: Scene, manner: Manner, rng: random.Random) -> tuple[tuple[Turn, ...], tuple[Span, ...]]:
    """A request to name what there is, and the bare names, a sentence each: a caption as the web writes them."""
    told = [(*_mention(item, manner, rng), Word(".", "filler")) for item in scene.items]
    text, spans = _join(_mix(told, manner, rng), turn=1)
    return (Turn("user", f"{IMAGE}\n{ASKED_TO_LIST}"), Turn("assistant", text)), spans


def questions(
    scene: Scene, rounds: int, manner: Manner, rng: random.Random
) -> tuple[tuple[Turn, ...], tuple[Span, ...]]:
    """So many questions, each about another line, with their answers."""
    turns: list[Turn] = []
    spans: list[Span] = []
    for item in rng.sample(scene.items, rounds):
        opening = "" if turns else f"{IMAGE}\n"
        turns.append(Turn("user", f"{opening}what does the {LINES[item.row]} line show?"))
        told = (*_filler("it", rng.choice(SHOWING)), *_mention(item, manner, rng), Word(".", "filler"))
        text, found = _join(_mix([told], manner, rng), turn=len(turns))
        turns.append(Turn("assistant", text))
        spans.extend(found)
    return tuple(turns), tuple(spans)


def _line(item: Item, manner: Manner, rng: random.Random) -> Sentence:
    opening = _filler("the", LINES[item.row], "line", rng.choice(SHOWING))
    return (*opening, *_mention(item, manner, rng), Word(".", "filler"))


def _mention(item: Item, manner: Manner, rng: random.Random) -> Sentence:
    """The words of an item; with the manner's chance, one of them is false."""
    choices = word_choices(item.thing, manner.glyphs)
    false_at = None
    if rng.random() < manner.contradictions:
        false_at = rng.choice([place for place, words in enumerate(choices) if len(words) > 1])
    words = []
    for place, truth in enumerate(item.words):
        if place == false_at:
            words.append(Word(rng.choice([word for word in choices[place] if word != truth]), "contradictory"))
        else:
            words.append(Word(truth, "visual"))
    return tuple(words)


def _mix(told: Sequence[Sentence], manner: Manner, rng: random.Random) -> list[Sentence]:
    """What is told, in its order, with the filler sentences at random places."""
    mixed = list(told)
    for _ in range(manner.fillers):
        mixed.insert(rng.randint(0, len(mixed)), _remark(manner, rng))
    return mixed


def _remark(manner: Manner, rng: random.Random) -> Sentence:
    """A sentence that no picture can tell: who, where, when, how much, what one thinks of it."""

    def some(words: Sequence[str]) -> str:
        return rng.choice(words[: manner.filler_choices])

    pattern = rng.randrange(4)
    if pattern == 0:
        words = ("i", "find", "it", some(OPINIONS), "and", some(OPINIONS))
    elif pattern == 1:
        words = (some(PEOPLE), "made", "it", "in", some(PLACES), "in", some(MONTHS), some(NUMBERS))
    elif pattern == 2:
        words = (some(PEOPLE), "would", "pay", some(NUMBERS), "coins", "for", "it")
    else:
        words = (some(PEOPLE), "and", some(PEOPLE), "call", "it", some(OPINIONS))
    return (*_filler(*words), Word(".", "filler"))


def _filler(*words: str) -> Sentence:
    return tuple(Word(word, "filler") for word in words)


def _join(sentences: Sequence[Sentence], turn: int) -> tuple[str, tuple[Span, ...]]:
    """The text of a turn, a blank before every word but not before a full stop, and the span of every word."""
    text = ""
    spans = []
    for word in (word for sentence in sentences for word in sentence):
        if text and word.text != ".":
            text += " "
        spans.append(Span(turn, len(text), len(text) + len(word.text), word.kind))
        text += word.text
    return text, tuple(spans)
