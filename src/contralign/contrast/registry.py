"""Contrasts by name, for lists of them: "drop", "drop:an image", "mean:4", "shuffle", "patches:0.7", "blur:10"."""

from __future__ import annotations

from collections.abc import Callable

from contralign.contrast.base import Contrast
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.shuffle import ShufflePictures

PLAIN: dict[str, Callable[[], Contrast]] = {
    "drop": DropImage,
    "mask": MaskImage,
    "shuffle": ShufflePictures,
    "mean": MeanPicture,
    "patches": MaskPatches,
    "blur": lambda: BlurPicture(sigma=10.0),
}
"""With default settings."""

SET: dict[str, Callable[[str], Contrast]] = {
    "drop": lambda prompt: DropImage(prompt=prompt),
    "mean": lambda tokens: MeanPicture(tokens=int(tokens)),
    "patches": lambda ratio: MaskPatches(ratio=float(ratio)),
    "blur": lambda sigma: BlurPicture(sigma=float(sigma)),
}
"""With the one setting that matters: prompt, tokens, ratio, σ."""


def contrast_named(text: str) -> Contrast:
    """A contrast from "NAME" or "NAME:SETTING".

    Args:
        text: the setting is the prompt of "drop", the tokens of "mean", the ratio of "patches", the σ of "blur".

    Raises:
        ValueError: an unknown name, or a setting that it cannot have.
    """
    name, colon, setting = text.partition(":")
    if name not in PLAIN:
        raise ValueError(f"contrast {text!r}: wanted one of {', '.join(PLAIN)}, such as 'drop', 'mean:4' or 'blur:10'")
    if not colon:
        return PLAIN[name]()
    if name not in SET:
        raise ValueError(f"contrast {text!r}: {name!r} has no setting; write {name!r}")
    try:
        return SET[name](setting)
    except ValueError as error:
        raise ValueError(f"contrast {text!r}: {error}") from error
