"""Hugging Face chat messages: {"messages": [{"role", "content": text or typed parts}, …], "images": …}."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from contralign.data.records.bad_record import BadRecord, short
from contralign.data.records.formats.llava_json import (
    LITERAL_IMAGE,
    checked_text,
    picture_values,
    record_id,
    system_first,
    turn_fields,
    turn_list,
)
from contralign.data.records.formats.record_keys import is_learnt
from contralign.data.records.images import ImageSource, as_image
from contralign.data.records.messages import IMAGE, Role, Sample, Turn


def chat_sample(record: Mapping[str, Any], name: str, image_root: Path | None, source: str = "") -> Sample:
    """A sample from chat messages.

    A part of type "image" marks the place of a picture. The picture is in the part (`image`, `path` or `url`) or, in
    order, in the record's `images` or `image`. Messages that are plain text mark places by ``<image>``, one for each
    picture; without any, all pictures go in front of the first user turn.

    Args:
        record: the messages, and perhaps `images` or `image`.
        name: id of the sample where the record has none.
        image_root: folder of pictures given by file name.
        source: file the record came from.

    Raises:
        BadRecord: with what is wrong.
    """
    beside = list(picture_values(record))
    given = len(beside)
    pictures: list[ImageSource] = []
    messages = turn_list(record, "messages", (list, tuple))
    turns = [_turn(message, index, beside, pictures, image_root) for index, message in enumerate(messages)]
    if given and len(beside) == given and not pictures:
        turns, pictures = _placed(turns, given), [as_image(value, image_root) for value in beside]
    elif beside:
        raise BadRecord("picture_count", f"{len(beside)} pictures more than parts of type image; drop them")
    system, turns = system_first(record, turns)
    turns = [*system, *turns]
    if turns[-1].role != "assistant":
        raise BadRecord("no_answer", "the last message is not the assistant's; nothing to learn from")
    return Sample(record_id(record, name), tuple(turns), tuple(pictures), source=source)


def _turn(message: object, index: int, beside: list[Any], pictures: list[ImageSource], root: Path | None) -> Turn:
    """One turn; the pictures of its image parts are moved from `beside` to `pictures`."""
    role, content = turn_fields(message, f"message {index}", "role", "content")
    if role not in get_args(Role):
        raise BadRecord("wrong_role", f"message {index} has role {short(role)}; wanted {', '.join(get_args(Role))}")
    learnt = is_learnt(message, f"message {index}")
    if isinstance(content, str):
        return Turn(role, checked_text(content, index), learnt)
    if not isinstance(content, (list, tuple)):
        raise BadRecord("wrong_type", f"message {index} has content of type {type(content).__name__}")
    return Turn(role, "".join(_parts(content, index, beside, pictures, root)), learnt)


def _parts(
    content: Sequence[Any], index: int, beside: list[Any], pictures: list[ImageSource], root: Path | None
) -> Iterator[str]:
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            yield checked_text(part.get("text"), index)
        elif kind == "image":
            own = next((part[key] for key in ("image", "path", "url") if part.get(key) is not None), None)
            if own is None and not beside:
                raise BadRecord("picture_count", f"message {index} has an image part but no picture is left for it")
            pictures.append(as_image(beside.pop(0) if own is None else own, root))
            yield IMAGE
        else:
            raise BadRecord("wrong_part", f"message {index} has a part of type {short(kind)}; wanted text or image")


def _placed(turns: list[Turn], num_pictures: int) -> list[Turn]:
    """Plain-text turns with a marker for each of the record's pictures."""
    written = sum(turn.text.count(LITERAL_IMAGE) for turn in turns)
    if written == num_pictures:
        return [replace(turn, text=turn.text.replace(LITERAL_IMAGE, IMAGE)) for turn in turns]
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if written or first is None:
        raise BadRecord("picture_count", f"{num_pictures} pictures but {written} of {LITERAL_IMAGE} in the messages")
    opened = Turn("user", IMAGE * num_pictures + turns[first].text)
    return [*turns[:first], opened, *turns[first + 1 :]]
