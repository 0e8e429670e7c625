"""Data sets that never download anything: a name in a recipe and the function that makes the samples."""

from __future__ import annotations

from collections.abc import Callable

from contralign.data.records.messages import Sample
from contralign.data.sets.easy_vqa import easy_vqa
from contralign.data.sets.emoji.emoji import emoji
from contralign.data.sets.emoji.emoji_scenes import emoji_scenes
from contralign.data.sets.scenes.scenes import scenes
from contralign.data.sets.stamps import stamps

SETS: dict[str, Callable[..., list[Sample]]] = {
    "scenes": scenes,
    "easy_vqa": easy_vqa,
    "emoji": emoji,
    "emoji_scenes": emoji_scenes,
    "stamps": stamps,
}
