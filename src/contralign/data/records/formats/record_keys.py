"""Which keys of a record are read, and which change what would be learnt but cannot be served."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from contralign.data.records.bad_record import BadRecord, short

READ = frozenset({"id", "image", "images", "conversations", "messages", "system"})
"""Keys of a record that are read."""

REFUSED = {
    **dict.fromkeys(
        ("video", "videos", "video_path", "audio", "audios", "audio_path", "speech", "point_cloud", "depth"),
        "only pictures are served",
    ),
    **dict.fromkeys(
        (
            "image_path",
            "image_paths",
            "image_file",
            "image_files",
            "image_url",
            "image_urls",
            "img",
            "imgs",
            "img_path",
            "picture",
            "pictures",
            "photo",
            "frames",
        ),
        "write the picture under image, or pictures under images",
    ),
    **dict.fromkeys(("tools", "tool_calls", "functions", "function_call"), "tool use is not served"),
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_messages"), "preferences are not served"),
    **dict.fromkeys(("reasoning_content", "thinking"), "write it into the answer, or leave it out"),
    **dict.fromkeys(
        ("history", "instruction", "prompt", "completion", "query", "response"),
        "write the turns under conversations or messages",
    ),
}
"""Keys that change what is learnt, of a record or of a turn -> what to do."""


def holds(value: Any) -> bool:
    """False for None and for an empty text, list or object."""
    return value is not None and not (isinstance(value, (str, bytes, list, tuple, Mapping)) and not value)


_LOSS_KEYS = ("loss", "train", "weight", "loss_weight")


def check_keys(held: Mapping[str, Any], what: str) -> None:
    """Refuse a record or turn with something in it that would be left out of what is learnt.

    Args:
        held: the record, or one of its turns.
        what: "the record", or which turn.

    Raises:
        BadRecord: `unknown_key`, with the key.
    """
    for key, value in held.items():
        if key in REFUSED and holds(value) and value is not False:
            raise BadRecord("unknown_key", f"{what} has {key!r} ({short(value)}): {REFUSED[key]}, or take the key out")


def is_learnt(turn: Any, what: str) -> bool:
    """Whether a turn gets labels: False where it says `loss: false`, `train: false` or `weight: 0`.

    Raises:
        BadRecord: `wrong_type`: a weight between, or a value that is none.
    """
    learnt = True
    for key in _LOSS_KEYS:
        value = turn.get(key)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise BadRecord("wrong_type", f"{what} has {key}={short(value)}; wanted true or false (1 or 0)")
        learnt = learnt and bool(value)
    return learnt


def unread_keys(record: Any) -> Counter[str]:
    """Keys of a record that hold something and are not read."""
    if not isinstance(record, Mapping):
        return Counter()
    return Counter(short(key) for key, value in record.items() if key not in READ and value is not None)
