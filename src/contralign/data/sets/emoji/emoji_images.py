"""The pictures of the npm package emoji-datasource-google, with plain English names.

1,911 Noto emoji of 64 x 64 pixels (pictures Apache-2.0, package MIT). `spoken_name` turns their literal Unicode names
into names that one would say.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contralign.data.records.images import locate_image
from contralign.data.sets.packages import DataPackage

PACKAGE = DataPackage(
    name="emoji-datasource-google",
    variable="CONTRALIGN_EMOJI",
    places=("~/.cache/contralign/emoji-datasource-google", "node_modules/emoji-datasource-google"),
    wanted=("emoji.json", "img/google/64"),
    recipe=(
        "  mkdir -p ~/.cache/contralign/emoji-datasource-google && cd ~/.cache/contralign/emoji-datasource-google\n"
        "  npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz --strip-components=1"
    ),
)
_FIELDS = ("name", "short_name", "image", "category")
_NO_PICTURES_OF_THINGS = "Component"


@dataclass(frozen=True, slots=True, kw_only=True)
class Emoji:
    """One picture.

    Attributes:
        name: what people call it, lower case; no two have the same.
        group: "Animals & Nature", "Flags" …
        picture: file of 64 x 64 pixels, often with transparency.
    """

    name: str
    group: str
    picture: Path


def read_emoji(root: str | Path | None = None) -> list[Emoji]:
    """All emoji of the package in its order, without the five bare skin tones; variants of skin are not listed.

    Args:
        root: folder of the unpacked package; None looks where `PACKAGE` says.

    Raises:
        MissingPackage: it is not there.
        BadRecord: a picture that is missing or lies elsewhere.
        ValueError: emoji.json is not what the package has.
    """
    folder = PACKAGE.folder(root)
    listed = [entry for entry in _entries(folder / "emoji.json") if entry["category"] != _NO_PICTURES_OF_THINGS]
    named = Counter(spoken_name(entry["name"], entry["short_name"]) for entry in listed)
    found: dict[str, Emoji] = {}
    for entry in listed:
        name = spoken_name(entry["name"], entry["short_name"])
        if named[name] > 1:
            name = _words(entry["short_name"])
        if name in found:
            raise ValueError(
                f"{folder / 'emoji.json'}: two emoji are called {name!r}; wanted release 16 of the package"
            )
        picture = locate_image(entry["image"], folder / "img/google/64")
        found[name] = Emoji(name=name, group=entry["category"], picture=picture)
    return list(found.values())


def spoken_name(name: str, short_name: str) -> str:
    """A Unicode name as one would say it: ("BLACK TELEPHONE", "phone") gives "telephone".

    - "black" and "white" mean filled and outlined in Unicode; they stay only where the short name has them too.
    - "family: man, boy" is a "family of man and boy"; any other name with a colon is told by its short name.
    """
    kind, _, members = name.partition(": ")
    if "," in members:
        *first, last = members.lower().split(", ")
        return f"{kind.lower()} of {', '.join(first)} and {last}"
    if members:
        return _words(short_name)
    short = _words(short_name).split()
    words = name.lower().replace("’", "'").split()
    return " ".join(word for word in words if word not in ("black", "white") or word in short)


def _words(short_name: str) -> str:
    return re.sub(r"[_-]+", " ", short_name).strip().lower()


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; unpack the package again") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: wanted a list of emoji; unpack the package again")
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in _FIELDS):
            raise ValueError(f"{path}: wanted texts {', '.join(_FIELDS)} of every emoji, got {str(entry)[:80]!r}")
    return entries
