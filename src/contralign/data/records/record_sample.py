"""A record of any known format as a sample."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from contralign.data.records.bad_record import BadRecord, short
from contralign.data.records.formats.chat_messages import chat_sample
from contralign.data.records.formats.llava_json import llava_sample
from contralign.data.records.formats.record_keys import check_keys
from contralign.data.records.messages import Sample

Check = Callable[[Sample], None]


def record_sample(record: Any, name: str, root: Path | None, origin: str) -> Sample:
    """A sample from a LLaVA record (`conversations`), chat messages (`messages`) or a sample.

    Args:
        record: one of these; a `BadRecord` is raised.
        name: id of the sample if the record has none.
        root: folder of the pictures.
        origin: file or set that the record came from.

    Raises:
        BadRecord: with what is wrong.
    """
    if isinstance(record, BadRecord):
        raise record
    if isinstance(record, Sample):
        return record if record.source else replace(record, source=origin)
    if not isinstance(record, Mapping):
        raise BadRecord("wrong_type", f"a record of type {type(record).__name__}; wanted an object")
    forms = [key for key in ("conversations", "messages") if record.get(key) is not None]
    if len(forms) != 1:
        keys = short(", ".join(map(str, record))) if record else "none"
        reason = "ambiguous" if forms else "missing_key"
        raise BadRecord(reason, f"keys {keys}; wanted 'conversations' (LLaVA) or 'messages' (chat), one of them")
    check_keys(record, "the record")
    reader = llava_sample if forms == ["conversations"] else chat_sample
    return reader(record, name, root, origin)


def trainable_sample(sample: Sample, check: Check | None = None) -> Sample:
    """The sample, after checking that it ends with an answer and passes `check`.

    Raises:
        BadRecord: `no_answer`, or what `check` raises.
    """
    if sample.turns[-1].role != "assistant":
        raise BadRecord("no_answer", "the last turn is not the assistant's; nothing to learn from")
    if check is not None:
        check(sample)
    return sample
