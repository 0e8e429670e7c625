"""`emoji_scenes`: endless pictures of two emoji on a coloured ground, told in a sentence, for models of real parts.

What `scenes` is to a model that learns everything here, this is to a pretrained one: real drawings and plain English,
and still the kind of every word is known. The words before a name do not depend on it ("the", never "a" or "an").
"""

import itertools
import random
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.sets.emoji.emoji_images import PACKAGE, Emoji, read_emoji
from contralign.data.sets.emoji.emoji_remarks import remark
from contralign.data.sets.slotted_text import fill
from contralign.data.sets.splits import Split, check_choice, split_of

Holdout = Literal["combinations", "pictures"]

GROUPS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")
"""Emoji of these groups are things with names of their own, not faces, people, flags or symbols."""

COLOURS = {
    "red": (226, 72, 72),
    "green": (96, 186, 96),
    "blue": (88, 120, 226),
    "yellow": (244, 222, 96),
    "purple": (164, 96, 196),
    "pink": (246, 170, 200),
    "brown": (150, 104, 66),
    "grey": (150, 150, 150),
    "black": (28, 28, 28),
    "white": (252, 252, 252),
}
"""Colours of the ground, as red, green and blue of 0 to 255."""

REQUESTS = ("describe the picture.", "what do you see?", "tell me about this picture.")
TEMPLATES = (
    "the {left} and the {right} on a {colour} ground.",
    "on {colour} paper, the {right} to the right of the {left}.",
    "a picture of the {left} next to the {right}, with {colour} all around.",
    "here is the {right}; to the left of it, the {left}. the ground is {colour}.",
)

SIDES = (56, 448)
"""Least and most pixels along a picture's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    split: Split
    seed: int
    fillers: int
    side: int
    holdout: Holdout


def emoji_scenes(
    split: Split,
    count: int,
    seed: int = 0,
    root: str | Path | None = None,
    pictures: int = 200,
    fillers: int = 0,
    side: int = 112,
    holdout: Holdout = "combinations",
) -> list[Sample]:
    """The first `count` samples of an endless list that depends on nothing but the other arguments and the package.

    A painted picture takes 4 · side² bytes: 4,000 of 112 pixels are 200 MB.

    Args:
        split: "train" or "heldout".
        count: how many; a longer list begins with the shorter one.
        seed: another seed gives another list.
        root: folder of the unpacked package; None looks where `emoji_images.PACKAGE` says.
        pictures: emoji in use, the same for every seed; fewer are among more. Names of one word come first (the first
            387), so that 200 is a vocabulary that a few thousand samples can teach: each occurs in 1 % of them.
        fillers: sentences that no picture can tell, before or after the one that tells.
        side: pixels of a side, 56 to 448; an emoji takes 6/14 of it.
        holdout: "combinations": no two emoji that are together in a held-out picture are together in a training
            picture, whatever the seeds, sides and colours; each alone is known. "pictures": no emoji of a held-out
            picture is ever in a training picture, as in `emoji`.

    Raises:
        MissingPackage: the package is not there; the message says how to get it.
        ValueError: an unknown split or holdout, a number out of range, or a damaged package.
    """
    check_choice("split", split, Split)
    check_choice("holdout", holdout, Holdout)
    if count < 0 or fillers < 0:
        raise ValueError(f"count={count}, fillers={fillers}: wanted 0 or more")
    if not SIDES[0] <= side <= SIDES[1]:
        raise ValueError(f"side={side}: wanted {SIDES[0]} to {SIDES[1]} pixels")
    names = vocabulary(pictures, root)
    if holdout == "pictures":
        names = [one for one in names if split_of(one.name) == split]
    settings = _Settings(split=split, seed=seed, fillers=fillers, side=side, holdout=holdout)
    if not any(_belongs(left, right, settings) for left, right in itertools.combinations(names, 2)):
        raise ValueError(f"pictures={pictures} leaves no two emoji to {split} under holdout={holdout!r}: raise it")
    return [_make(number, names, settings) for number in range(count)]


def vocabulary(pictures: int, root: str | Path | None = None) -> list[Emoji]:
    """The emoji in use: things, names of fewest words first, else in an order that a hash of the name decides.

    Raises:
        MissingPackage: the package is not there.
        ValueError: there are not so many, or fewer than 2 are asked for.
    """
    things = _things(PACKAGE.folder(root).resolve())
    if not 2 <= pictures <= len(things):
        raise ValueError(f"pictures={pictures}: wanted 2 to {len(things)}, the emoji that are things")
    return list(things[:pictures])


def split_of_pair(first: str, second: str) -> Split:
    """The split that pictures of these two emoji belong to, in whatever order: a hash of both names decides."""
    return split_of(" + ".join(sorted((first, second))))


@cache
def _things(folder: Path) -> tuple[Emoji, ...]:
    things = [one for one in read_emoji(folder) if one.group in GROUPS]
    return tuple(sorted(things, key=lambda one: (len(one.name.split()), zlib.crc32(one.name.encode()), one.name)))


def _belongs(left: Emoji, right: Emoji, settings: _Settings) -> bool:
    return settings.holdout == "pictures" or split_of_pair(left.name, right.name) == settings.split


def _make(number: int, names: list[Emoji], settings: _Settings) -> Sample:
    rng = random.Random(f"emoji_scenes {settings.seed} {settings.split} {number}")
    left, right = rng.sample(names, 2)
    while not _belongs(left, right, settings):
        left, right = rng.sample(names, 2)
    colour = rng.choice(tuple(COLOURS))
    sentences = [rng.choice(TEMPLATES)]
    for _ in range(settings.fillers):
        sentences.insert(rng.randint(0, len(sentences)), remark(rng))
    text, spans = fill(" ".join(sentences), {"left": left.name, "right": right.name, "colour": colour})
    turns = (Turn("user", f"{IMAGE}\n{rng.choice(REQUESTS)}"), Turn("assistant", text))
    picture = _paint(left, right, COLOURS[colour], settings.side, rng)
    name = f"emoji_scenes/{settings.split}/{settings.seed}/{number}"
    return Sample(name, turns, (picture,), spans, source=f"emoji_scenes/{settings.split}")


def _paint(left: Emoji, right: Emoji, colour: tuple[int, int, int], side: int, rng: random.Random) -> Image.Image:
    """Both emoji at random places of their halves, on a ground of about that colour."""
    red, green, blue = (max(0, min(255, channel + rng.randint(-12, 12))) for channel in colour)
    picture = Image.new("RGB", (side, side), (red, green, blue))
    size = side * 6 // 14
    for place, one in enumerate((left, right)):
        drawn = _drawing(one.picture, size)
        spare = side // 2 - size
        corner = (place * (side // 2) + rng.randint(0, spare), rng.randint(0, side - size))
        picture.paste(drawn, corner, mask=drawn.getchannel("A"))
    return picture


@cache
def _drawing(path: Path, size: int) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as opened:
        return opened.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)
