"""`easy_vqa`: the real easy-VQA pictures and questions of the PyPI package of that name.

4,000 + 1,000 pictures of one coloured shape, 38,575 + 9,673 questions with 13 answers. Many questions can be guessed
from their wording alone (the most frequent answer to a wording is right 67 % of the time): compare with both baselines.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from contralign.data.records.messages import IMAGE, Sample, Span, Turn
from contralign.data.sets.splits import check_choice, draw_limited

Split = Literal["train", "test"]
Form = Literal["questions", "sentences", "affirmations"]

COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
REQUEST = "say something about the picture."

_NAME = re.compile(rf"\b({'|'.join(COLOURS + SHAPES)})\b")

# What is asked, and how it is stated: {answer} is the answer, \1 … what the question names.
_OPEN_STATEMENTS = {
    r"what color is the (\w+)\?": r"the \1 is {answer}.",
    r"what is the color of the (\w+)\?": r"the color of the \1 is {answer}.",
    r"what is the (\w+) shape\?": r"the \1 shape is a {answer}.",
    r"what shape is in the image\?": r"a {answer} is in the image.",
    r"what shape does the image contain\?": r"the image contains a {answer}.",
    r"what shape is present\?": r"a {answer} is present.",
}
# Yes-no questions: is the question itself negated, and the statements that affirm and deny what it is about.
_CLOSED_STATEMENTS = {
    r"is there a (.+?)( in the image)?\?": (False, r"there is a \1\2.", r"there is no \1\2."),
    r"is there not a (.+?)( in the image)?\?": (True, r"there is a \1\2.", r"there is no \1\2."),
    r"is a (.+) present\?": (False, r"a \1 is present.", r"no \1 is present."),
    r"is no (.+) present\?": (True, r"a \1 is present.", r"no \1 is present."),
    r"does the image contain a (.+)\?": (False, r"the image contains a \1.", r"the image does not contain a \1."),
    r"does the image not contain a (.+)\?": (True, r"the image contains a \1.", r"the image does not contain a \1."),
}


def easy_vqa(split: Split = "train", form: Form = "questions", limit: int | None = None, seed: int = 0) -> list[Sample]:
    """One sample for every question of the package, in its order.

    Args:
        split: "train" (38,575) or "test" (9,673).
        form: "questions" asks and is answered in a word; "sentences" asks for a remark and gets question and answer as
            a statement ("there is no red shape."); "affirmations" are those sentences that deny nothing, and so name
            what there is to see.
        limit: only so many, drawn without replacement and shuffled by `seed`; None is all.
        seed: of that draw; without a limit nothing is drawn.

    Returns:
        Samples whose every answer word has its kind. A one-word answer is "visual". In a statement, so are the colours
        and shapes it affirms; all else is "filler", what a statement denies too: a picture says little about what else
        one could have missed in it.

    Raises:
        ValueError: an unknown split or form, or a limit that the split does not have.
        ImportError: the package is missing.
    """
    check_choice("form", form, Form)
    rows, pictures = _read(split)
    numbers: Sequence[int] = range(len(rows))
    if form == "affirmations":
        numbers = [number for number in numbers if not _denies(statement(*rows[number][:2]))]
    numbers = draw_limited(numbers, limit, seed, "easy_vqa", split, what=form)
    make = _as_question if form == "questions" else _as_sentence
    return [make(f"easy_vqa/{split}/{number}", *rows[number][:2], pictures[rows[number][2]]) for number in numbers]


def statement(question: str, answer: str) -> str:
    """A question and its answer as one sentence: ("is there a red shape?", "no") gives "there is no red shape.".

    Raises:
        ValueError: the question has none of the wordings of easy-VQA, or a yes-no question has another answer.
    """
    for wording, template in _OPEN_STATEMENTS.items():
        if match := re.fullmatch(wording, question):
            return match.expand(template).format(answer=answer)
    for wording, (negated, affirmed, denied) in _CLOSED_STATEMENTS.items():
        if match := re.fullmatch(wording, question):
            if answer not in ("yes", "no"):
                raise ValueError(f"{question!r} answered with {answer!r}: wanted yes or no")
            return match.expand(affirmed if (answer == "yes") != negated else denied)
    raise ValueError(f"{question!r} is worded like no question of easy-VQA")


def wording(question: str) -> str:
    """The question with every colour as COLOUR and every shape as SHAPE: easy-VQA has 24 of them."""
    return _NAME.sub(lambda name: "COLOUR" if name[0] in COLOURS else "SHAPE", question)


def _read(split: str) -> tuple[list[tuple[str, str, int]], dict[int, Path]]:
    """Questions, answers and picture numbers of a split, and the picture files by number."""
    check_choice("split", split, Split)
    try:
        import easy_vqa as package
    except ImportError as error:
        raise ImportError("easy_vqa is not installed: pip install 'contralign[sets]'") from error
    questions, paths = (getattr(package, f"get_{split}_{what}")() for what in ("questions", "image_paths"))
    return list(zip(*questions, strict=True)), {number: Path(path) for number, path in paths.items()}


def _as_question(name: str, question: str, answer: str, picture: Path) -> Sample:
    turns = (Turn("user", f"{IMAGE}\n{question}"), Turn("assistant", answer))
    return Sample(name, turns, (picture,), (Span(1, 0, len(answer), "visual"),), source="easy_vqa")


def _as_sentence(name: str, question: str, answer: str, picture: Path) -> Sample:
    text = statement(question, answer)
    denied = _denies(text)
    spans = tuple(
        Span(1, word.start(), word.end(), "visual" if _NAME.fullmatch(word[0]) and not denied else "filler")
        for word in re.finditer(r"\w+|\.", text)
    )
    turns = (Turn("user", f"{IMAGE}\n{REQUEST}"), Turn("assistant", text))
    return Sample(name, turns, (picture,), spans, source="easy_vqa")


def _denies(text: str) -> bool:
    return re.search(r"\b(no|not)\b", text) is not None
