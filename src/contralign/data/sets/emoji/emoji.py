"""`emoji`: one emoji a picture, with its name in a short sentence: real drawings, 1,906 names, nothing else to see.

The pictures are those of the npm package emoji-datasource-google, which is not shipped and never downloaded here:
`emoji_images.PACKAGE` says where it is looked for and how to get it.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.sets.emoji.emoji_images import Emoji, read_emoji
from contralign.data.sets.slotted_text import fill
from contralign.data.sets.splits import Split, check_choice, draw_limited, of_groups, split_of

REQUEST = "describe the picture."
TEMPLATES = (
    "{name}.",
    "this is the sign for {name}.",
    "the picture shows {name}.",
    "a small drawing of {name}.",
    "what one sees here is {name}.",
)


def emoji(
    split: Split = "train",
    root: str | Path | None = None,
    groups: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """One sample for every emoji of a split.

    Args:
        split: "train" or "heldout"; the name decides, so no picture and no name is in both. A few flags and families
            look the same under different names.
        root: folder of the unpacked package; None looks where `emoji_images.PACKAGE` says.
        groups: only these, as the package calls them: "Smileys & Emotion", "People & Body", "Animals & Nature",
            "Food & Drink", "Travel & Places", "Activities", "Objects", "Symbols", "Flags". None is all.
        limit: only so many, drawn without replacement and shuffled by `seed`; None is all, in the package's order.
        seed: of that draw, and of which sentence a name stands in.

    Returns:
        Samples with paths of pictures under the package's folder. The words of the name are "visual", the other words
        "filler".

    Raises:
        MissingPackage: the package is not there; the message says how to get it.
        ValueError: an unknown split or group, a limit that the split does not have, or a damaged package.
    """
    check_choice("split", split, Split)
    found = of_groups(read_emoji(root), lambda one: one.group, groups, "groups")
    chosen = [one for one in found if split_of(one.name) == split]
    return [_make(one, split, seed) for one in draw_limited(chosen, limit, seed, "emoji", split)]


def _make(one: Emoji, split: Split, seed: int) -> Sample:
    template = random.Random(f"emoji {seed} {one.name}").choice(TEMPLATES)
    text, spans = fill(template, {"name": one.name})
    turns = (Turn("user", f"{IMAGE}\n{REQUEST}"), Turn("assistant", text))
    return Sample(f"emoji/{split}/{one.picture.stem}", turns, (one.picture,), spans, source=f"emoji/{split}")
