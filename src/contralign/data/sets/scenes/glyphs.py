"""Small bitmaps with names: hundreds of invented signs, and letters and digits to print with.

A sign stands for what real captions are full of: a word of high entropy that only the picture can tell. Sign k looks
and reads the same in every run, whatever the seed of the scenes.
"""

import itertools
import random
from dataclasses import dataclass
from functools import cache

GLYPH_SIDE = 5
"""Rows and columns of a sign."""

MAX_GLYPHS = 600
"""Signs in the inventory."""

MIN_DISTANCE = 7
"""Any two signs differ in at least so many of their 25 dots: more alike, they take a tower much longer to learn."""

Bitmap = tuple[str, ...]
"""Rows of "0" and "1", top first."""

_OCTAL_ROWS = """
25755 65656 34443 65556 74647 74644 34553 55755 72227 11152 55655 44447 57755 65555 25552 65644 25573 65655 34216 72222
55557 55522 55775 55255 55222 71247 75557 26227 71747 71317 55711 74717 74757 71122 75757 75717
"""
LETTER_ROWS = dict(zip("abcdefghijklmnopqrstuvwxyz0123456789", _OCTAL_ROWS.split(), strict=True))
"""A letter or digit as five octal digits: one a row, three dots each."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """An invented sign: its name (a pseudo-word) and its dots."""

    name: str
    bitmap: Bitmap


def letter_bitmap(character: str) -> Bitmap:
    """The 5 x 3 dots of a lower-case letter or a digit.

    Raises:
        ValueError: there is no such character in the font.
    """
    if character not in LETTER_ROWS:
        raise ValueError(f"no bitmap for {character!r}: the font holds a-z and 0-9")
    return tuple(f"{int(row, 8):03b}" for row in LETTER_ROWS[character])


def named_glyphs(count: int) -> tuple[Glyph, ...]:
    """The first `count` signs of the inventory.

    Raises:
        ValueError: `count` is not in 2..`MAX_GLYPHS`.
    """
    if not 2 <= count <= MAX_GLYPHS:
        raise ValueError(f"glyphs={count}: wanted 2 to {MAX_GLYPHS}")
    return tuple(_inventory().values())[:count]


def glyph_bitmap(name: str) -> Bitmap:
    """The dots of the sign called `name`.

    Raises:
        ValueError: no sign has that name.
    """
    if name not in _inventory():
        raise ValueError(f"no sign is called {name!r}: see named_glyphs")
    return _inventory()[name].bitmap


def pseudo_words(count: int, syllables: int, seed: str, vowel_first: bool = False) -> tuple[str, ...]:
    """Different invented words of consonant-vowel syllables; the same for the same arguments.

    Args:
        count: how many.
        syllables: length of each, in syllables.
        seed: names the list.
        vowel_first: put a vowel in front, which keeps the list apart from lists without.

    Raises:
        ValueError: there are not so many.
    """
    pairs = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    if count > len(pairs) ** syllables:
        raise ValueError(f"count={count}: there are {len(pairs) ** syllables} words of {syllables} syllables; add some")
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        opening = rng.choice("aeiou") if vowel_first else ""
        words[opening + "".join(rng.choice(pairs) for _ in range(syllables))] = None
    return tuple(words)


@cache
def _inventory() -> dict[str, Glyph]:
    rng = random.Random("signs")
    kept: list[int] = []
    while len(kept) < MAX_GLYPHS:
        dots = rng.getrandbits(25)
        if 9 <= dots.bit_count() <= 17 and all((dots ^ other).bit_count() >= MIN_DISTANCE for other in kept):
            kept.append(dots)
    names = pseudo_words(MAX_GLYPHS, syllables=3, seed="names of signs")
    return {name: Glyph(name, _rows(dots)) for name, dots in zip(names, kept, strict=True)}


def _rows(dots: int) -> Bitmap:
    bits = f"{dots:025b}"
    return tuple(bits[start : start + GLYPH_SIDE] for start in range(0, len(bits), GLYPH_SIDE))
