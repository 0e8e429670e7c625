"""The end of a verb that may run on several ranks."""

from __future__ import annotations

from accelerate import PartialState


def leave_process_group() -> None:
    """Take this rank's process group down, if it has one.

    Left to the interpreter's exit, gloo's threads now and then outlive what they belong to, and a run that is complete
    is aborted. Ranks do not wait for each other here: the main one may have evaluated for hours.
    """
    PartialState().destroy_process_group()
