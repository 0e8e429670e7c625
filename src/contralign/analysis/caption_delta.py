"""A caption in pieces, each with Δ, weight and loss from the two passes: plain records, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The text of one token of an answer, or a stretch of it that no label token stands for.

    Attributes:
        turn: index of the assistant turn in the sample.
        text: "" at a label token that is no part of the text: an end token, a blank that the template puts in front.
        kind: visual, filler or contradictory; None where it is not known.
        delta: Δ by score, neither clamped nor pooled; empty where the piece has no label.
        weight: the weight that CAL would give, by score; empty likewise.
        nll: negative log-likelihood with the picture, nats; None likewise.
        nll_without: the same in the second pass, without the picture.
    """

    turn: int
    text: str
    kind: str | None = None
    delta: Mapping[str, float] = field(default_factory=dict)
    weight: Mapping[str, float] = field(default_factory=dict)
    nll: float | None = None
    nll_without: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDelta:
    """All answers of one sample.

    Attributes:
        id: of the sample.
        pieces: in reading order; those of one turn put together are its text.
    """

    id: str
    pieces: tuple[Piece, ...]

    @property
    def turns(self) -> tuple[int, ...]:
        """The assistant turns, in order."""
        return tuple(dict.fromkeys(piece.turn for piece in self.pieces))

    def of_turn(self, turn: int) -> tuple[Piece, ...]:
        """The pieces of one assistant turn."""
        return tuple(piece for piece in self.pieces if piece.turn == turn)

    def text(self, turn: int) -> str:
        """The text of one assistant turn."""
        return "".join(piece.text for piece in self.of_turn(turn))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CaptionDelta:
        """What `dataclasses.asdict` gave."""
        return cls(id=record["id"], pieces=tuple(Piece(**piece) for piece in record["pieces"]))


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """What `write_json_lines` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
