"""The settings of scenes: what pictures hold, what texts say of them, and how often they are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from contralign.data.sets.scenes.glyphs import named_glyphs
from contralign.data.sets.splits import check_choice

Thing = Literal["sign", "word", "number", "shapes", "code", "chart"]
Task = Literal["list", "caption", "question", "mixed"]
Aspect = Literal["label", "colour", "count", "name", "position"]
"""What a word tells of an item: its type, its colour, how many, which one of its type, its column."""

Contradicted = Literal["any", "name", "colour", "count", "position"]

ASPECTS: dict[Thing, tuple[Aspect, ...]] = {
    "sign": ("colour", "name"),
    "word": ("label", "name"),
    "number": ("label", "name"),
    "shapes": ("count", "colour", "name"),
    "code": ("label", "name"),
    "chart": ("count", "colour", "label", "name"),
}
"""What is told of a thing, in this order; the characters of a code and the bars of a chart are several names."""

GRID = 4
"""Lines and columns of a picture."""

ONE_CELL = 4
"""Shapes that fit in one cell; more take two."""

MAX_COUNT = 2 * ONE_CELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """How much a scene shows, and what is said of it.

    Attributes:
        things: what the lines of a picture may hold; name one twice to see it twice as often. "sign" (a colour and a
            name), "word" (four printed letters), "number" (two digits), "shapes" (how many, colour, form), "code"
            (letters and digits drawn at random and told one by one, so that no tokenizer knows them by heart) and
            "chart" (two to four bars, their colour and their heights, 1 to 7). Characters and bars fill a cell each.
        items: lines a picture has, 1 to 4.
        glyphs: signs in use, 2 to 600.
        counts: most shapes in an item, 2 to 8; more than four take two cells.
        code_length: characters of a code, 2 to 4, each in a cell of its own.
        positions: every mention also says in which column its item begins.
        task: "list" (bare names, most to see for the fewest tokens), "caption" (a sentence a line), "question", or
            "mixed" (caption or question, by the toss of a coin).
        rounds: questions about one picture; each is about another line.
        fillers: sentences in an answer that no picture can tell.
        filler_choices: different words in every open place of them and of asides, at most; 1 makes them predictable.
        filler_names: names, of the same entropy, that are added to each of them.
        boilerplate: sentences in an answer of which the first word, one of eight, tells all that follow.
        asides: chance that a mention has, between its visual words and beside them, something about the item that the
            picture does not tell: a judgement, a maker, a place it is from, a price.
        contradictions: chance that the mention of an item has one word that the picture refutes.
        contradicted: what that word tells. An item of which no such thing is told stays true.
        hallucinations: chance that an answer also says of one of its lines that it holds an item that is not in the
            picture. Its words are all "contradictory"; the item that is there is told as well.

    Raises:
        ValueError: a setting is out of its range, or has no effect beside the others.
    """

    things: Sequence[Thing] = ("sign", "word", "number", "shapes")
    items: int = 3
    glyphs: int = 256
    counts: int = 4
    code_length: int = 3
    positions: bool = False
    task: Task = "caption"
    rounds: int = 1
    fillers: int = 2
    filler_choices: int = 200
    filler_names: int = 0
    boilerplate: int = 0
    asides: float = 0.0
    contradictions: float = 0.0
    contradicted: Contradicted = "any"
    hallucinations: float = 0.0

    def __post_init__(self) -> None:
        self._check_pictures()
        self._check_texts()
        self._check_falsehoods()

    def _check_pictures(self) -> None:
        named_glyphs(self.glyphs)
        unknown = [thing for thing in self.things if thing not in get_args(Thing)]
        if unknown or not self.things:
            raise ValueError(f"things={list(self.things)}: wanted one or more of {', '.join(get_args(Thing))}")
        _check_range("items", self.items, 1, GRID, f"1 to {GRID}, one a line")
        _check_range("counts", self.counts, 2, MAX_COUNT, f"2 to {MAX_COUNT}, the most shapes that two cells hold")
        _check_range("code_length", self.code_length, 2, GRID, f"2 to {GRID}, a character a cell")
        if self.counts != 4 and "shapes" not in self.things:
            raise ValueError(f"counts={self.counts} has no effect without shapes; add them to things")
        if self.code_length != 3 and "code" not in self.things:
            raise ValueError(f"code_length={self.code_length} has no effect without codes; add code to things")

    def _check_texts(self) -> None:
        check_choice("task", self.task, Task)
        items = self.items
        _check_range("rounds", self.rounds, 1, items, f"1 to items ({items}), a line for every question")
        if self.rounds > 1 and self.task in ("list", "caption"):
            raise ValueError(f"rounds={self.rounds} has no effect on task={self.task!r}; set question or mixed")
        if self.fillers < 0 or self.filler_choices < 1:
            raise ValueError(
                f"fillers={self.fillers}, filler_choices={self.filler_choices}: wanted 0 or more, and 1 or more"
            )
        if self.filler_names < 0 or self.boilerplate < 0:
            raise ValueError(f"filler_names={self.filler_names}, boilerplate={self.boilerplate}: wanted 0 or more")
        if self.filler_names and not self.fillers:
            raise ValueError(f"filler_names={self.filler_names} has no effect without fillers; set fillers")
        _check_range("asides", self.asides, 0, 1, "a chance, 0 to 1")

    def _check_falsehoods(self) -> None:
        _check_range("contradictions", self.contradictions, 0, 1, "a chance, 0 to 1")
        _check_range("hallucinations", self.hallucinations, 0, 1, "a chance, 0 to 1")
        check_choice("contradicted", self.contradicted, Contradicted)
        if self.contradicted == "any":
            return
        if not self.contradictions:
            raise ValueError(f"contradicted={self.contradicted!r} has no effect without contradictions; set a chance")
        told = {aspect for thing in self.things for aspect in ASPECTS[thing]}
        if self.contradicted not in told and not (self.contradicted == "position" and self.positions):
            raise ValueError(
                f"contradicted={self.contradicted!r} has no effect: nothing of the kind is told of {list(self.things)}"
            )


def _check_range(name: str, value: float, least: int, most: int, wanted: str) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value}: wanted {wanted}")
