"""LLaVA's JSON records: {"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, …]} (spec 2.1).

A `system` of the record, or a first turn from "system", is the system turn. A turn with `loss: false` has no labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contralign.data.records.bad_record import BadRecord, short
from contralign.data.records.formats.record_keys import check_keys, is_learnt
from contralign.data.records.images import as_image
from contralign.data.records.messages import IMAGE, Role, Sample, Turn

LITERAL_IMAGE = "<image>"
ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant", "system": "system"}


def llava_sample(record: Mapping[str, Any], name: str, image_root: Path | None, source: str = "") -> Sample:
    """A sample from a LLaVA record.

    With one picture, ``<image>`` moves to the front of its turn, and several in a turn become one, as in LLaVA. With
    several pictures the markers stay in place. Without a picture ``<image>`` is text. If the assistant speaks first,
    as in ShareGPT data, that turn is dropped.

    Args:
        record: may hold `image` (or `images`): a file name under the image root, a picture, or a list of them.
        name: id of the sample where the record has none.
        image_root: folder of the pictures.
        source: file the record came from.

    Raises:
        BadRecord: with what is wrong.
    """
    turns = [_turn(turn, index) for index, turn in enumerate(turn_list(record, "conversations", (list,)))]
    system, spoken = system_first(record, turns)
    spoken = spoken[1:] if spoken and spoken[0].role == "assistant" else spoken
    if not spoken or spoken[-1].role != "assistant":
        raise BadRecord("no_answer", f"{len(spoken)} turns, the last not from gpt; nothing to learn from")
    held = picture_values(record)
    pictures = tuple(as_image(value, image_root) for value in held)
    marked = tuple(_marked(turn, len(held)) for turn in spoken)
    written = sum(turn.text.count(LITERAL_IMAGE) for turn in spoken)
    if sum(turn.text.count(IMAGE) for turn in marked) != len(held):
        raise BadRecord(
            "picture_count",
            f"{len(held)} pictures and {written} of {LITERAL_IMAGE} in the turns; write one {LITERAL_IMAGE} for each "
            "picture",
        )
    return Sample(record_id(record, name), (*system, *marked), pictures, source=source)


def system_first(record: Mapping[str, Any], turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The system turn, of the record's `system` or of the first turn, as a list of one or none; and all other turns.

    Raises:
        BadRecord: `ambiguous`, both are there; `wrong_type`, `system` is no text.
    """
    system, spoken = (turns[:1], turns[1:]) if turns[0].role == "system" else ([], turns)
    own = record.get("system")
    if own is None or own == "":
        return system, spoken
    if system:
        raise BadRecord("ambiguous", "both 'system' and a system turn are there; keep one")
    if not isinstance(own, str):
        raise BadRecord("wrong_type", f"'system' of type {type(own).__name__}; wanted text")
    return [Turn("system", checked_text(own, 0))], spoken


def picture_values(record: Mapping[str, Any]) -> Sequence[Any]:
    """The record's values under `image` or `images`, as a sequence.

    Raises:
        BadRecord: `ambiguous`, both are there.
    """
    found = [record[key] for key in ("image", "images") if record.get(key) is not None]
    if len(found) > 1:
        raise BadRecord("ambiguous", "both 'image' and 'images' are there; keep one")
    if not found:
        return ()
    return found[0] if isinstance(found[0], (list, tuple)) else (found[0],)


def record_id(record: Mapping[str, Any], name: str) -> str:
    """The record's `id` as text, or `name` without one.

    Raises:
        BadRecord: an id that is neither text nor a whole number.
    """
    own = record.get("id")
    if own is None or own == "":
        return name
    if isinstance(own, bool) or not isinstance(own, (str, int)):
        raise BadRecord("wrong_type", f"id {short(own)} of type {type(own).__name__}; wanted text or a whole number")
    return str(own)


def checked_text(text: object, index: int) -> str:
    """The text of turn `index`.

    Raises:
        BadRecord: no text, or the marker U+FFFC in it.
    """
    if not isinstance(text, str):
        raise BadRecord("wrong_type", f"turn {index} has text of type {type(text).__name__}; wanted str")
    if IMAGE in text:
        raise BadRecord(
            "reserved_character",
            f"turn {index} holds the character U+FFFC, which no text needs; write <image> for a picture",
        )
    return text


def turn_list(record: Mapping[str, Any], key: str, kinds: tuple[type, ...]) -> Sequence[Any]:
    """The turns that a record holds under `key`.

    Raises:
        BadRecord: none are there, or they are no list.
    """
    turns = record.get(key)
    if turns is None:
        raise BadRecord("missing_key", f"keys {short(', '.join(map(str, record)))}; wanted {key!r}")
    if not isinstance(turns, kinds):
        raise BadRecord("wrong_type", f"{key} of type {type(turns).__name__}; wanted a list")
    if not turns:
        raise BadRecord("no_turns", f"an empty list of {key}; wanted a question and an answer")
    return turns


def turn_fields(turn: object, name: str, *keys: str) -> tuple[Any, ...]:
    """The values of the keys that a turn must have; `name` says which turn.

    Raises:
        BadRecord: it is no object, or lacks one.
    """
    if not isinstance(turn, Mapping):
        raise BadRecord("wrong_type", f"{name} is of type {type(turn).__name__}; wanted an object")
    missing = [key for key in keys if key not in turn]
    if missing:
        raise BadRecord("missing_key", f"{name} has no {' and no '.join(map(repr, missing))}")
    check_keys(turn, name)
    return tuple(turn[key] for key in keys)


def _turn(turn: object, index: int) -> Turn:
    name = f"turn {index}"
    speaker, text = turn_fields(turn, name, "from", "value")
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise BadRecord("wrong_role", f"{name} is from {short(speaker)}; wanted {' or '.join(ROLES)}")
    return Turn(ROLES[speaker], checked_text(text, index), is_learnt(turn, name))


def _marked(turn: Turn, num_pictures: int) -> Turn:
    """The turn with picture markers."""
    if num_pictures == 0 or LITERAL_IMAGE not in turn.text:
        return turn
    if num_pictures > 1:
        return replace(turn, text=turn.text.replace(LITERAL_IMAGE, IMAGE))
    words = turn.text.replace(LITERAL_IMAGE, "").strip()
    return replace(turn, text=f"{IMAGE}\n{words}".strip())
