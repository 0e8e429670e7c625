"""All contrasts by name, and the spellings of their settings. Importing this imports none of them."""

from __future__ import annotations

import inspect
import json
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

NONE = "none"
"""What stands in a contrast's place where no second look is taken."""

FORMER = {
    "patch_ratio": ("patches", "ratio"),
    "patch_fill": ("patches", "fill"),
    "patch_seed": ("patches", "seed"),
    "blur_sigma": ("blur", "sigma"),
    "prompt": ("drop", "prompt"),
    "mean_tokens": ("mean", "tokens"),
}
"""Settings of single contrasts that stood beside the contrast once -> contrast and setting."""

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
        settings, colon, written = dict(spelling), "", ""
        name = settings.pop("name", None)
        if not isinstance(name, str) or ":" in name:
            raise ValueError(f"contrast {_shown(spelling)}: wanted its name among the settings, such as name: patches")
    else:
        settings, (name, colon, written) = {}, spelling.partition(":")
    if name not in CONTRASTS:
        raise ValueError(
            f"contrast {_shown(spelling)}: {one_of(name, CONTRASTS)} (written as 'drop', 'mean:4' or 'blur:10')"
        )
    if not colon:
        setting, read = MAIN_SETTING.get(name, ("", None))
        if read is float and type(settings.get(setting)) is int:
            settings[setting] = float(settings[setting])  # as behind the name: "blur:10" is {name: blur, sigma: 10}
        return name, settings
    if name in CONTRASTS.built_in and name not in MAIN_SETTING:
        raise ValueError(f"contrast {spelling!r}: {name!r} has no setting; write {name!r}")
    if name not in MAIN_SETTING:
        raise ValueError(f"contrast {spelling!r}: name the setting of {name!r}: {{name: {name}, SETTING: {written}}}")
    setting, read = MAIN_SETTING[name]
    try:
        return name, {setting: read(written)}
    except ValueError as error:
        raise ValueError(f"contrast {_shown(spelling)}: {error}") from error


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


def check_spelled_contrast(contrast: str | Mapping[str, Any]) -> None:
    """Refuse what spells no contrast; none is imported.

    Raises:
        ValueError: with all names, or with what is wrong in the spelling.
    """
    if contrast == NONE:
        return
    name = contrast if isinstance(contrast, Mapping) else str(contrast).partition(":")[0]
    if isinstance(name, str) and name not in CONTRASTS:
        raise ValueError(f"contrast={contrast!r}: {one_of(name, [*CONTRASTS, NONE])}")
    read_spelling(contrast)


def check_spelling(settings: Mapping[str, Any], place: str = "") -> None:
    """Refuse settings of single contrasts beside the contrast, as they were written once, with today's spelling.

    Args:
        settings: of CAL, as somebody wrote them.
        place: dotted place of them in a recipe, such as "cal".

    Raises:
        ValueError: with the user's own values in the new spelling.
    """
    former = [name for name, value in settings.items() if name in FORMER and value is not None]
    if not former:
        return
    first = former[0]
    where = f"{place}.{first}" if place else first
    owner = FORMER[first][0]
    given = {FORMER[name][1]: settings[name] for name in former if FORMER[name][0] == owner}
    (setting, value), *more = given.items()
    short = not more and setting == MAIN_SETTING[owner][0] and _plain(value) == str(value)
    new: Any = f"{owner}:{value}" if short else {"name": owner, **given}
    flow = new if short else "{" + ", ".join(f"{name}: {_plain(value)}" for name, value in new.items()) + "}"
    spelled = f"contrast: {flow}" if place else f"contrast={new!r}"
    raise ValueError(f"{where}: {_plain(settings[first])} is written with the contrast now: {spelled}")


def respelled(settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The settings of a recipe without former ones that are null, as recipes resolved by earlier versions hold them.

    Raises:
        ValueError: see `check_spelling`.
    """
    check_spelling(settings, place)
    return {name: value for name, value in settings.items() if name not in FORMER}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.replace(" ", "").isalnum() else json.dumps(value)
