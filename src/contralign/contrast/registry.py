"""Contrasts by name, with their settings: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contralign.contrast.base import Contrast
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.shuffle import ShufflePictures

CONTRASTS: dict[str, Callable[..., Contrast]] = {
    "drop": DropImage,
    "mask": MaskImage,
    "shuffle": ShufflePictures,
    "mean": MeanPicture,
    "patches": MaskPatches,
    "blur": BlurPicture,
}

MAIN_SETTING: dict[str, tuple[str, Callable[[str], Any]]] = {
    "drop": ("prompt", str),
    "mean": ("tokens", int),
    "patches": ("ratio", float),
    "blur": ("sigma", float),
}
"""Contrast -> the one setting that may stand behind its name, and what reads it."""


def build_contrast(name: str, **settings: Any) -> Contrast:
    """A contrast by its name.

    Args:
        name: a key of `CONTRASTS`.
        settings: of that contrast; None is its own default.

    Raises:
        ValueError: a value out of range.
    """
    return CONTRASTS[name](**{setting: value for setting, value in settings.items() if value is not None})


def contrast_named(text: str) -> Contrast:
    """A contrast from "NAME" or "NAME:SETTING", for lists of them: "drop:an image", "mean:4", "patches:0.7", "blur:10".

    Args:
        text: the setting is the prompt of "drop", the tokens of "mean", the ratio of "patches", the σ of "blur".

    Raises:
        ValueError: an unknown name, or a setting that it cannot have.
    """
    name, colon, written = text.partition(":")
    if name not in CONTRASTS:
        choice = ", ".join(CONTRASTS)
        raise ValueError(f"contrast {text!r}: wanted one of {choice}, such as 'drop', 'mean:4' or 'blur:10'")
    if not colon:
        return build_contrast(name)
    if name not in MAIN_SETTING:
        raise ValueError(f"contrast {text!r}: {name!r} has no setting; write {name!r}")
    setting, read = MAIN_SETTING[name]
    try:
        return build_contrast(name, **{setting: read(written)})
    except ValueError as error:
        raise ValueError(f"contrast {text!r}: {error}") from error
