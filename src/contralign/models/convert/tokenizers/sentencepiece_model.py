"""A SentencePiece file (`tokenizer.model`): its pieces and the settings that ids depend on.

The file is one protocol buffer; the few fields that are needed are read here, so that neither sentencepiece nor
protobuf has to be installed.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contralign.models.convert.checkpoint import ConversionError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BPE = 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SPACE = "▁"

Field = tuple[int, int | bytes]


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place.

    Attributes:
        text: a space is written `SPACE`.
        score: of two pieces that could be made, the one with the higher score is.
        kind: NORMAL, UNKNOWN, CONTROL, USER_DEFINED or BYTE.
    """

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What ids depend on.

    Attributes:
        pieces: the vocabulary by id.
        add_dummy_prefix: a space is put in front of every text (Llama; not Gemma).
        byte_fallback: a character outside the vocabulary is written as its bytes.
    """

    pieces: tuple[Piece, ...]
    add_dummy_prefix: bool
    byte_fallback: bool


def read_sentencepiece(path: str | Path) -> SentencePieceModel:
    """Read a BPE model without text normalisation: what Llama, Vicuna, Mistral and Gemma have.

    Raises:
        ConversionError: the file is no SentencePiece model, or one whose ids a fast tokenizer could not give.
    """
    path = Path(path)
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                pieces.append(_piece(_bytes(value)))
            elif number == 2:
                trainer = dict(_fields(_bytes(value)))
            elif number == 3:
                normalizer = dict(_fields(_bytes(value)))
    except (IndexError, ValueError, struct.error) as error:
        raise ConversionError(f"{path} is no SentencePiece model ({error}): copy it again") from error
    _refuse_other_kinds(path, pieces, trainer, normalizer)
    return SentencePieceModel(tuple(pieces), bool(normalizer.get(3, 1)), bool(trainer.get(35, 0)))


def _refuse_other_kinds(
    path: Path, pieces: list[Piece], trainer: dict[int, int | bytes], normalizer: dict[int, int | bytes]
) -> None:
    """Field numbers are those of sentencepiece_model.proto; absent fields have its defaults."""
    found = {
        "no pieces": not pieces,
        "a model_type other than BPE": trainer.get(3, 1) != BPE,
        "a normalisation of characters": bool(normalizer.get(2, b"")),
        "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
        "spaces that are not escaped": not normalizer.get(5, 1),
        "treat_whitespace_as_suffix": bool(trainer.get(24, 0)),
        "unused pieces": any(piece.kind == UNUSED for piece in pieces),
        "not one unknown piece": sum(piece.kind == UNKNOWN for piece in pieces) != 1,
    }
    reasons = [what for what, holds in found.items() if holds]
    if reasons:
        raise ConversionError(
            f"{path} has {', '.join(reasons)}: the Llama and Gemma tokenizers of the original checkpoints have not"
        )


def _piece(content: bytes) -> Piece:
    fields = dict(_fields(content))
    (score,) = struct.unpack("<f", _bytes(fields.get(2, bytes(4))))
    kind = fields.get(3, NORMAL)
    if not isinstance(kind, int) or not NORMAL <= kind <= BYTE:
        raise ValueError(f"piece of kind {kind!r}")
    return Piece(_bytes(fields.get(1, b"")).decode("utf-8"), score, kind)


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a part was expected")
    return value


def _fields(content: bytes) -> Iterator[Field]:
    """(number, value) of every field of one message; a repeated field comes again."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(content, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"field of wire type {wire}")
        if at + size > len(content):
            raise ValueError("it ends in the middle of a field")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
