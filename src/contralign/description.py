"""What an object of settings is, in plain values: enough to tell it from another one later."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from contralign.plugins import package_of


def describe(thing: object) -> dict[str, Any]:
    """Class, settings and, of a package that adds names to contralign, its name and version.

    Args:
        thing: an instance.

    Returns:
        "class": module and name; "settings": the fields of a dataclass that count when two are compared, of any other
        object all its attributes; "package", where there is one. "settings" is None where one is not plain (None, bool,
        number, text, or lists and mappings of these): such an object cannot be told from another of its class.
    """
    kind = type(thing)
    package = package_of(kind)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "settings": settings_of(thing),
        **({} if package is None else {"package": package}),
    }


def settings_of(thing: object) -> dict[str, Any] | None:
    """The settings of `describe`."""
    if is_dataclass(thing):
        told = {item.name: getattr(thing, item.name) for item in fields(thing) if item.compare}
    elif hasattr(thing, "__dict__"):
        told = dict(vars(thing))
    else:
        return None
    return told if is_plain(told) else None


def is_own(thing: object) -> bool:
    """True for an instance of a class of contralign."""
    return type(thing).__module__.startswith("contralign.")


def is_plain(value: Any) -> bool:
    """True for None, bool, numbers, text, and lists, tuples and mappings of these."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def check_same(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse parts that are not what they were, by their descriptions.

    Args:
        there: part -> what `describe` said of it, or None; of earlier, as JSON kept it.
        here: the same of now. Settings that a later version has added are not compared.

    Raises:
        ValueError: with the first part that differs.
    """
    here = json.loads(json.dumps(here))
    for part, before in there.items():
        now = here.get(part)
        if before is None or now is None or before.get("settings") is None or now.get("settings") is None:
            same = _without_settings(before) == _without_settings(now)
        else:
            kept = {name: now["settings"].get(name) for name in before["settings"]}
            same = {**now, "settings": kept} == before
        if not same:
            raise ValueError(f"{part} was {_in_words(before)} and is {_in_words(now)}: give the one that it was")


def _without_settings(told: Mapping[str, Any] | None) -> Any:
    return told and {name: value for name, value in told.items() if name != "settings"}


def _in_words(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "none"
    package = f" of {told['package']}" if "package" in told else ""
    return f"{told['class'].rpartition('.')[2]}{package} with {told['settings']}"
