"""`Sample`, the one internal form of a record: turns of text with picture markers, and the pictures.

Every reader (LLaVA JSON, chat messages, built-in sets) makes samples, and all later code reads only these. The marker
`IMAGE` is one character, U+FFFC OBJECT REPLACEMENT CHARACTER, which every reader refuses in its input. So ``<image>``
in the text of a sample is always plain text.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.images import ImageSource, open_image

__all__ = ["IMAGE", "ImageSource", "Role", "Sample", "Span", "SpanKind", "Turn", "open_image"]

IMAGE = "\ufffc"
"""Place of a picture in the text of a turn."""

Role = Literal["system", "user", "assistant"]
SpanKind = Literal["visual", "filler", "contradictory"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `IMAGE` in the text marks the place of a picture.

    Attributes:
        role: of the speaker.
        text: what is said.
        learnt: False gives an assistant turn no labels.
    """

    role: Role
    text: str
    learnt: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """The kind of the characters [start, end) of assistant turn `Sample.turns[turn]`.

    "visual": can only be known from the picture; "filler": can be guessed, or has nothing to do with it;
    "contradictory": the picture refutes it.
    """

    turn: int
    start: int
    end: int
    kind: SpanKind


@dataclass(frozen=True, slots=True)
class Sample:
    """One record: an optional system turn, then user and assistant turns in alternation.

    Attributes:
        id: name of the record; messages and reports use it.
        turns: a sample to train on ends with the assistant, a prompt with the user.
        pictures: in reading order; the n-th `IMAGE` of all turns together is the n-th picture.
        spans: kinds of characters, where they are known.
        source: the file or set the record came from.

    Raises:
        BadRecord: unknown role, turns that do not alternate, other numbers of markers and pictures, or a span outside
            of an assistant turn.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[ImageSource, ...] = ()
    spans: tuple[Span, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        _check_turns(self.turns)
        markers = sum(turn.text.count(IMAGE) for turn in self.turns)
        if markers != len(self.pictures):
            raise BadRecord(
                "picture_count",
                f"{markers} places of pictures in the text but {len(self.pictures)} pictures; wanted one for each: "
                "<image> in a record, contralign.data.IMAGE in the text of a Turn",
            )
        for span in self.spans:
            _check_span(span, self.turns)


def _check_turns(turns: tuple[Turn, ...]) -> None:
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        raise BadRecord("no_turns", "no user turn; wanted at least one")
    for index, turn in enumerate(turns):
        if turn.role not in get_args(Role):
            raise BadRecord("wrong_role", f"turn {index} has role {turn.role!r}; wanted {', '.join(get_args(Role))}")
        if not isinstance(turn.text, str):
            raise BadRecord("wrong_type", f"turn {index} has text of type {type(turn.text).__name__}; wanted str")
    roles = [turn.role for turn in spoken]
    wanted: list[Role] = ["user" if index % 2 == 0 else "assistant" for index in range(len(roles))]
    if roles != wanted:
        raise BadRecord(
            "turns_not_alternating",
            f"roles {', '.join(turn.role for turn in turns)}; wanted user and assistant in turn, the user first, "
            "after at most one system turn",
        )


def _check_span(span: Span, turns: tuple[Turn, ...]) -> None:
    if not 0 <= span.turn < len(turns) or turns[span.turn].role != "assistant":
        raise BadRecord("wrong_span", f"{span} does not name an assistant turn")
    if not 0 <= span.start < span.end <= len(turns[span.turn].text):
        raise BadRecord("wrong_span", f"{span} is not a part of a text of {len(turns[span.turn].text)} characters")
    if span.kind not in get_args(SpanKind):
        raise BadRecord("wrong_span", f"{span}: kind must be one of {', '.join(get_args(SpanKind))}")
