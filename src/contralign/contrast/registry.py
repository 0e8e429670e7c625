"""All contrasts by name, and the spellings of their settings. Importing this imports none of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from contralign.nearest import one_of
from contralign.plugins import Registry

if TYPE_CHECKING:
    from contralign.contrast.base import Contrast

CONTRASTS = Registry(
    "contralign.contrasts",
    "contrast",
    {
        "drop": "contralign.contrast.drop:DropImage",
        "mask": "contralign.contrast.mask:MaskImage",
        "patches": "contralign.contrast.patches:MaskPatches",
        "blur": "contralign.contrast.blur:BlurPicture",
        "shuffle": "contralign.contrast.shuffle:ShufflePictures",
        "mean": "contralign.contrast.mean:MeanPicture",
    },
)
"""Name -> class, called with its settings by keyword."""

MAIN_SETTING: dict[str, tuple[str, Callable[[str], Any]]] = {
    "drop": ("prompt", str),
    "mean": ("tokens", int),
    "patches": ("ratio", float),
    "blur": ("sigma", float),
}
"""Contrast -> the one setting that may stand behind its name, and what reads it."""

BOUND = frozenset({"pack", "words", "running"})
"""Fields that `contralign.reading.fitted` fills in for a model, and nobody sets."""


def read_spelling(spelling: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of a contrast, which is not imported for it.

    Args:
        spelling: "NAME", "NAME:SETTING" ("drop:an image", "mean:4", "patches:0.7", "blur:10": prompt, tokens, ratio,
            σ), or several settings with the name among them: {"name": "patches", "ratio": 0.7, "seed": 3}.

    Raises:
        ValueError: an unknown name, or a setting that cannot stand behind it.
    """
    if isinstance(spelling, Mapping):
        settings = dict(spelling)
        name = settings.pop("name", None)
        if not isinstance(name, str) or ":" in name:
            raise ValueError(f"contrast {_shown(spelling)}: wanted its name among the settings, such as name: patches")
        check_name(name, spelling)
        return name, settings
    name, colon, written = spelling.partition(":")
    check_name(name, spelling)
    if not colon:
        return name, {}
    if name in CONTRASTS.built_in and name not in MAIN_SETTING:
        raise ValueError(f"contrast {spelling!r}: {name!r} has no setting; write {name!r}")
    if name not in MAIN_SETTING:
        raise ValueError(f"contrast {spelling!r}: name the setting of {name!r}: {{name: {name}, SETTING: {written}}}")
    setting, read = MAIN_SETTING[name]
    try:
        return name, {setting: read(written)}
    except ValueError as error:
        raise ValueError(f"contrast {_shown(spelling)}: {error}") from error


def check_name(name: str, spelling: str | Mapping[str, Any]) -> None:
    """Refuse a name that no contrast has; none is imported.

    Args:
        name: of the contrast.
        spelling: it stands in, for the message.

    Raises:
        ValueError: with all names.
    """
    if name not in CONTRASTS:
        raise ValueError(
            f"contrast {_shown(spelling)}: {one_of(name, CONTRASTS)} (written as 'drop', 'mean:4' or 'blur:10')"
        )


def _shown(spelling: str | Mapping[str, Any]) -> str:
    return repr(dict(spelling) if isinstance(spelling, Mapping) else spelling)


def contrast_named(spelling: str | Mapping[str, Any]) -> Contrast:
    """A contrast from its spelling; see `read_spelling`.

    Raises:
        ValueError: an unknown name, a setting that it does not have, or one out of range.
    """
    from contralign.contrast.base import check_contrast

    name, settings = read_spelling(spelling)
    kind = CONTRASTS[name]
    known = [setting for setting in inspect.signature(kind).parameters if setting not in BOUND]
    for setting in settings:
        if setting not in known:
            raise ValueError(
                f"contrast {name!r} has no setting {setting!r}; its settings are {', '.join(known) or 'none'}"
            )
    try:
        return check_contrast(kind(**settings))
    except ValueError as error:
        raise ValueError(f"contrast {_shown(spelling)}: {error}") from error
