"""Captions and answers about a scene, joined from words of known kind, which become spans."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contralign.data.records.messages import IMAGE, Span, SpanKind, Turn
from contralign.data.sets.scenes.scene_difficulty import Difficulty
from contralign.data.sets.scenes.scene_items import Item, Scene, draw_absent, item_slots
from contralign.data.sets.scenes.scene_words import (
    ASKED_TO_DESCRIBE,
    ASKED_TO_LIST,
    BOILERPLATE,
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
Answer = tuple[tuple[Turn, ...], tuple[Span, ...]]
Opening = Callable[[Item, random.Random], Sentence]
"""How the sentence about an item begins."""

STOP = Word(".", "filler")


def caption(scene: Scene, difficulty: Difficulty, rng: random.Random) -> Answer:
    """A request to describe the picture, and the description: the lines from the top, fillers in between."""
    text, spans = _answer(scene.items, scene, _line, difficulty, rng, turn=1)
    return (Turn("user", f"{IMAGE}\n{rng.choice(ASKED_TO_DESCRIBE)}"), Turn("assistant", text)), spans


def short_list(scene: Scene, difficulty: Difficulty, rng: random.Random) -> Answer:
    """A request to name what there is, and the bare names, a sentence each: a caption as the web writes them."""
    text, spans = _answer(scene.items, scene, lambda *_: (), difficulty, rng, turn=1)
    return (Turn("user", f"{IMAGE}\n{ASKED_TO_LIST}"), Turn("assistant", text)), spans


def questions(scene: Scene, difficulty: Difficulty, rng: random.Random) -> Answer:
    """The difficulty's number of questions, each about another line, with their answers."""
    turns: list[Turn] = []
    spans: list[Span] = []
    for item in rng.sample(scene.items, difficulty.rounds):
        opening = "" if turns else f"{IMAGE}\n"
        turns.append(Turn("user", f"{opening}what does the {LINES[item.row]} line show?"))
        text, found = _answer([item], scene, _it, difficulty, rng, turn=len(turns))
        turns.append(Turn("assistant", text))
        spans.extend(found)
    return tuple(turns), tuple(spans)


def _line(item: Item, rng: random.Random) -> Sentence:
    return _filler("the", LINES[item.row], "line", rng.choice(SHOWING))


def _it(_: Item, rng: random.Random) -> Sentence:
    return _filler("it", rng.choice(SHOWING))


def _answer(
    items: Sequence[Item], scene: Scene, opening: Opening, difficulty: Difficulty, rng: random.Random, turn: int
) -> tuple[str, tuple[Span, ...]]:
    """The text and spans of an answer: a sentence an item, fillers, and by chance an item that is not there."""
    told = [(*opening(item, rng), *_mention(item, difficulty, rng), STOP) for item in items]
    if _happens(difficulty.hallucinations, rng):
        absent = draw_absent(rng, rng.choice(items), scene, difficulty)
        words = [Word(word, "contradictory") for word, _ in item_slots(absent, difficulty)]
        sentence = (*opening(absent, rng), *_phrase(absent, words, difficulty, rng), STOP)
        told.insert(rng.randint(0, len(told)), sentence)
    return _join(_with_fillers(told, difficulty, rng), turn)


def _mention(item: Item, difficulty: Difficulty, rng: random.Random) -> Sentence:
    """What is said of an item; with the difficulty's chance, one word is false."""
    said = item_slots(item, difficulty)
    false_at = None
    if rng.random() < difficulty.contradictions:
        places = [
            place
            for place, (_, slot) in enumerate(said)
            if len(slot.words) > 1 and difficulty.contradicted in ("any", slot.tells)
        ]
        false_at = rng.choice(places) if places else None
    words = [Word(truth, "visual") for truth, _ in said]
    if false_at is not None:
        truth, slot = said[false_at]
        words[false_at] = Word(rng.choice([word for word in slot.words if word != truth]), "contradictory")
    return _phrase(item, words, difficulty, rng)


def _phrase(item: Item, words: Sequence[Word], difficulty: Difficulty, rng: random.Random) -> Sentence:
    """The words about an item (`item_slots`), with what belongs between them, and with an aside by chance."""
    before, after = _aside(difficulty, rng)
    told, column = list(words), ()
    if difficulty.positions:
        column = (*_filler("in", "column"), told.pop())
    if item.thing == "chart":
        told[3:] = (*_filler("of", "heights"), *_enumerated(told[3:]))
    return (*before, *told, *after, *column)


def _enumerated(words: Sequence[Word]) -> Sentence:
    """Two words or more as "a , b and c"."""
    commas = [part for word in words[:-2] for part in (word, *_filler(","))]
    return (*commas, words[-2], *_filler("and"), words[-1])


def _aside(difficulty: Difficulty, rng: random.Random) -> tuple[Sentence, Sentence]:
    """What no picture can tell of an item, before its words and after; one of both, by chance."""
    if not _happens(difficulty.asides, rng):
        return (), ()
    some = _chooser(difficulty, rng)
    match rng.randrange(4):
        case 0:
            return _filler(some(OPINIONS)), ()
        case 1:
            return (), _filler("by", some(PEOPLE))
        case 2:
            return (), _filler("from", some(PLACES))
        case _:
            return (), _filler("for", some(NUMBERS), "coins")


def _with_fillers(told: Sequence[Sentence], difficulty: Difficulty, rng: random.Random) -> list[Sentence]:
    """What is told, in its order, with the sentences that no picture can tell at random places."""
    mixed = list(told)
    for _ in range(difficulty.fillers):
        mixed.insert(rng.randint(0, len(mixed)), _remark(difficulty, rng))
    for _ in range(difficulty.boilerplate):
        mixed.insert(rng.randint(0, len(mixed)), (*_filler(*rng.choice(BOILERPLATE).split()), STOP))
    return mixed


def _remark(difficulty: Difficulty, rng: random.Random) -> Sentence:
    """A sentence that no picture can tell: who, where, when, how much, what one thinks of it."""
    some = _chooser(difficulty, rng)
    pattern = rng.randrange(4)
    if pattern == 0:
        words = ("i", "find", "it", some(OPINIONS), "and", some(OPINIONS))
    elif pattern == 1:
        words = (some(PEOPLE), "made", "it", "in", some(PLACES), "in", some(MONTHS), some(NUMBERS))
    elif pattern == 2:
        words = (some(PEOPLE), "would", "pay", some(NUMBERS), "coins", "for", "it")
    else:
        words = (some(PEOPLE), "and", some(PEOPLE), "call", "it", some(OPINIONS))
    if difficulty.filler_names:
        words += ("with", *(some(PEOPLE) for _ in range(difficulty.filler_names)))
    return (*_filler(*words), STOP)


def _chooser(difficulty: Difficulty, rng: random.Random) -> Callable[[Sequence[str]], str]:
    return lambda words: rng.choice(words[: difficulty.filler_choices])


def _happens(chance: float, rng: random.Random) -> bool:
    """True by chance; for a chance of 0 nothing is drawn, so that unused settings change no sample."""
    return chance > 0 and rng.random() < chance


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
