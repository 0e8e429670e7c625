"""Negative captions for retrieval: those of other samples, or the own one with one visual word exchanged."""

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from contralign.data.records.messages import Sample, Span
from contralign.data.sets.splits import check_choice

Negatives = Literal["random", "hard"]
Place = tuple[str, str]
"""The words before and after a slot."""

_WORD = re.compile(r"\w+|[^\w\s]")
_SLOT = "*"


def negative_captions(
    asked: Sequence[Sample], known: Sequence[Sample], count: int, negatives: Negatives, seed: int
) -> list[tuple[str, ...]]:
    """`count` different captions for every sample that are not its own.

    Args:
        asked: ending with an answer, which is the caption.
        known: source of other captions and words; includes `asked`.
        count: captions for each sample.
        negatives: "random": captions of other samples. "hard": the own caption with one visual word (or name of several
            words) exchanged, the same one in all. The new words are visual in other captions, between the same two
            words or marks, so that they fit the sentence. Every word with enough replacements is equally likely.
            Exchanging another word each time would put a blind guesser below chance: it would have to be right at
            every word.
        seed: of the draws; the draw for a sample does not depend on the other asked samples.

    Raises:
        ValueError: unknown negatives, or too few captions or words.
    """
    check_choice("negatives", negatives, Negatives)
    draws = [random.Random(f"other captions {seed} {sample.id}") for sample in asked]
    if negatives == "hard":
        words = _words_by_place(known)
        return [_one_word_off(sample, words, count, rng) for sample, rng in zip(asked, draws, strict=True)]
    captions = sorted({caption(sample) for sample in known})
    if len(captions) <= count:
        raise ValueError(f"{len(captions)} different captions: wanted more than {count}; lower k or give more samples")
    return [_of_others(sample, captions, count, rng) for sample, rng in zip(asked, draws, strict=True)]


def caption(sample: Sample) -> str:
    """The answer that a sample ends with.

    Raises:
        ValueError: it ends without one.
    """
    if sample.turns[-1].role != "assistant" or not sample.turns[-1].text.strip():
        raise ValueError(f"sample {sample.id!r} ends without an answer; leave it out")
    return sample.turns[-1].text


def _of_others(sample: Sample, captions: Sequence[str], count: int, rng: random.Random) -> tuple[str, ...]:
    drawn = rng.sample(captions, count + 1)
    return tuple(text for text in drawn if text != caption(sample))[:count]


def _one_word_off(
    sample: Sample, words: Mapping[Place, Sequence[str]], count: int, rng: random.Random
) -> tuple[str, ...]:
    text = caption(sample)
    slots = [
        (span, [word for word in words[place] if word != text[span.start : span.end]]) for place, span in _slots(sample)
    ]
    open_to_all = [(span, others) for span, others in slots if len(others) >= count]
    if not open_to_all:
        most = max((len(others) for _, others in slots), default=0)
        raise ValueError(
            f"sample {sample.id!r} has no visual word with {count} others for its place, at most {most}: lower k, give "
            "more samples, or set negatives='random'"
        )
    span, others = rng.choice(open_to_all)
    return tuple(text[: span.start] + word + text[span.end :] for word in rng.sample(others, count))


def _words_by_place(samples: Sequence[Sample]) -> dict[Place, list[str]]:
    """The visual words that occur between the same neighbours, sorted."""
    found: defaultdict[Place, set[str]] = defaultdict(set)
    for sample in samples:
        for place, span in _slots(sample):
            found[place].add(caption(sample)[span.start : span.end])
    return {place: sorted(words) for place, words in found.items()}


def _slots(sample: Sample) -> list[tuple[Place, Span]]:
    """The visual words of a caption, each with its place: the next word on either side, `_SLOT` for a visual one."""
    text, last = caption(sample), len(sample.turns) - 1
    spans = sorted((s for s in sample.spans if s.turn == last and s.kind == "visual"), key=lambda span: span.start)
    found = []
    for number, span in enumerate(spans):
        earlier, later = spans[:number], spans[number + 1 :]
        before = _WORD.findall(text[earlier[-1].end if earlier else 0 : span.start])
        after = _WORD.findall(text[span.end : later[0].start if later else len(text)])
        edges = (_SLOT if earlier else "", _SLOT if later else "")
        found.append(((before[-1] if before else edges[0], after[0] if after else edges[1]), span))
    return found
