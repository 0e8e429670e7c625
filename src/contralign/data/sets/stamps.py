"""`stamps`: photographs and drawings, each with a sentence that a person wrote: Debian's tuxpaint-stamps-default.

785 of its pictures are PNG files with a text beside them. The package is under GPL-2 and neither shipped nor
downloaded; `PACKAGE` says where it is looked for and how to get it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contralign.data.records.images import locate_image
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.sets.packages import DataPackage
from contralign.data.sets.splits import Split, check_choice, draw_limited, of_groups, split_of

logger = logging.getLogger(__name__)

PACKAGE = DataPackage(
    name="tuxpaint-stamps-default",
    variable="CONTRALIGN_STAMPS",
    places=("/usr/share/tuxpaint/stamps", "~/.cache/contralign/tuxpaint-stamps-default/usr/share/tuxpaint/stamps"),
    wanted=("animals",),
    recipe=(
        "  apt-get install tuxpaint-stamps-default\n"
        "or, without root,\n"
        "  apt-get download tuxpaint-stamps-default\n"
        "  dpkg -x tuxpaint-stamps-default_*.deb ~/.cache/contralign/tuxpaint-stamps-default"
    ),
)

REQUEST = "describe the picture."


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One picture and its sentence.

    Attributes:
        name: path below the root without its ending, such as "animals/birds/owl"; the first part is its folder.
        sentence: first line of the text beside the picture, as it was written.
        picture: PNG file, often with transparency.
    """

    name: str
    sentence: str
    picture: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """What a folder of stamps holds.

    Attributes:
        captioned: PNG pictures with a sentence, sorted by name.
        svg_only: names of stamps that exist as SVG alone, which cannot be rendered here.
        uncaptioned: names of PNG pictures without a sentence.
    """

    captioned: tuple[Stamp, ...]
    svg_only: tuple[str, ...]
    uncaptioned: tuple[str, ...]


def stamps(
    split: Split = "train",
    root: str | Path | None = None,
    folders: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """One sample for every picture of a split; how many stamps could not be used is logged.

    Args:
        split: "train" or "heldout"; the sentence decides, so none is in both, though several pictures may share one.
        root: folder of the stamps; None looks where `PACKAGE` says.
        folders: only these of the folders in the root, such as "animals" or "food"; None is all.
        limit: only so many, drawn without replacement and shuffled by `seed`; None is all, sorted by name.
        seed: of that draw; without a limit nothing is drawn.

    Returns:
        Samples with paths of pictures under the root. They have no spans: nobody knows which words need the picture.

    Raises:
        MissingPackage: the package is not there; the message says how to get it.
        ValueError: an unknown split or folder, a limit that the split does not have, or a text without a first line.
    """
    check_choice("split", split, Split)
    found = read_stamps(root)
    logger.info(
        "stamps: %d pictures with a sentence; left out: %d that are SVG alone, %d PNG without a sentence",
        *map(len, (found.captioned, found.svg_only, found.uncaptioned)),
    )
    listed = of_groups(found.captioned, lambda one: one.name.split("/")[0], folders, "folders")
    chosen = [one for one in listed if split_of(one.sentence) == split]
    return [_make(one, split) for one in draw_limited(chosen, limit, seed, "stamps", split)]


def read_stamps(root: str | Path | None = None) -> Stamps:
    """All stamps of a folder and those below it.

    Args:
        root: the folder; None looks where `PACKAGE` says.

    Raises:
        MissingPackage: the package is not there.
        BadRecord: a file that a symlink leads out of the root.
        ValueError: a text that is not UTF-8, or has no first line.
    """
    folder = PACKAGE.folder(root)
    pictures, drawings, texts = (
        {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob(f"*.{ending}")}
        for ending in ("png", "svg", "txt")
    )
    captioned = [
        Stamp(name=name, sentence=_sentence(folder, name), picture=locate_image(f"{name}.png", folder))
        for name in sorted(pictures & texts)
    ]
    return Stamps(
        captioned=tuple(captioned),
        svg_only=tuple(sorted(drawings - pictures)),
        uncaptioned=tuple(sorted(pictures - texts)),
    )


def _sentence(folder: Path, name: str) -> str:
    """First line of the text; the lines below it are translations."""
    path = locate_image(f"{name}.txt", folder)
    try:
        first, *_ = path.read_text(encoding="utf-8").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; mend it or take it away") from error
    if not first.strip():
        raise ValueError(f"{path}: wanted an English sentence in its first line; mend it or take it away")
    return first.strip()


def _make(one: Stamp, split: Split) -> Sample:
    turns = (Turn("user", f"{IMAGE}\n{REQUEST}"), Turn("assistant", one.sentence))
    return Sample(f"stamps/{one.name}", turns, (one.picture,), source=f"stamps/{split}")
