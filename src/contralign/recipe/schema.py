"""Plain YAML values into dataclasses: every error names the dotted place, what came and what was wanted."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from contralign.nearest import nearest
from contralign.training.cal_settings import CalSettings, respelled

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe, or an override on the command line, that cannot be followed."""


def join(path: str, key: str) -> str:
    """Dotted path of `key` inside `path`."""
    return f"{path}.{key}" if path else str(key)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: mappings are merged all the way down, every other value is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def from_mapping(kind: type[T], values: Any, path: str = "") -> T:
    """Build the dataclass `kind` from a mapping, checking names and types all the way down; null takes the default.

    Args:
        kind: a dataclass; its own `__post_init__` checks ranges.
        values: what the YAML held.
        path: dotted place of `values` in the recipe, for messages.

    Raises:
        RecipeError: an unknown or missing setting, a value of the wrong type, or a ValueError of `__post_init__`.
    """
    where = path or "recipe"
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: wanted settings (key: value), got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    if issubclass(kind, CalSettings):
        try:
            values = respelled(values, where)
        except ValueError as error:
            raise RecipeError(str(error)) from error
    for key in values:
        if key not in fields:
            raise RecipeError(f"{join(path, key)}: unknown setting; {nearest(str(key), fields)}")
    for name, field in fields.items():
        if _is_required(field) and name not in values:
            raise RecipeError(f"{join(path, name)}: missing; every {where} needs it")
    hints = get_type_hints(kind)
    built = {
        name: convert(value, hints[name], join(path, name))
        for name, value in values.items()
        if value is not None or _may_be_none(hints[name]) or _is_required(fields[name])
    }
    try:
        return kind(**built)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _may_be_none(hint: Any) -> bool:
    return hint is Any or types.NoneType in get_args(hint)


def convert(value: Any, hint: Any, path: str) -> Any:
    """`value` as the type `hint`; whole numbers pass for floats, one value for a list of one, nothing else is bent.

    Raises:
        RecipeError: `value` is of another type.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(hint), path)
    if origin is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        raise RecipeError(f"{path}: got {value!r}; {nearest(str(value), map(str, get_args(hint)))}")
    if origin is tuple:
        return _convert_tuple(value, get_args(hint), path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: wanted settings (key: value), got {value!r}")
        return {str(key): convert(item, get_args(hint)[1], join(path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    return _convert_scalar(value, hint, path)


def _convert_union(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    if value is None and types.NoneType in choices:
        return None
    wanted = [choice for choice in choices if choice is not types.NoneType]
    if len(wanted) == 1:
        return convert(value, wanted[0], path)
    for choice in wanted:
        try:
            return convert(value, choice, path)
        except RecipeError:
            continue
    raise RecipeError(f"{path}: wanted {' or '.join(map(describe, wanted))}, got {describe_value(value)}")


def _convert_tuple(value: Any, items: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    listed = list(value) if isinstance(value, list | tuple) else [value]
    if items[-1] is Ellipsis:
        return tuple(convert(item, items[0], f"{path}[{index}]") for index, item in enumerate(listed))
    if len(listed) != len(items):
        raise RecipeError(f"{path}: wanted {len(items)} values, got {value!r}")
    return tuple(
        convert(item, hint, f"{path}[{index}]") for index, (item, hint) in enumerate(zip(listed, items, strict=True))
    )


def _convert_scalar(value: Any, hint: Any, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise RecipeError(f"{path}: wanted {describe(hint)}, got {describe_value(value)}")


def describe(hint: Any) -> str:
    """A type in the words of a recipe's writer."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "settings"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def describe_value(value: Any) -> str:
    """A value with its type, so that "1" and 1 are told apart."""
    return "nothing (null)" if value is None else f"{value!r} ({type(value).__name__})"


def check_keywords(function: Callable[..., Any], settings: Mapping[str, Any], path: str, given: Iterable[str]) -> None:
    """See that `settings` are keyword arguments of `function` that the caller does not give itself, of the right types.

    A function that takes any keyword is left to check them itself.

    Args:
        function: what will be called with the settings.
        settings: the mapping of the recipe.
        path: dotted place of the settings.
        given: names of arguments that the program fills in.

    Raises:
        RecipeError: a name that is no argument, or a number, text or choice of another type than the argument's.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    names = [name for name in parameters if name not in set(given)]
    hints = get_type_hints(function)
    for key, value in settings.items():
        if key not in names:
            raise RecipeError(f"{join(path, key)}: unknown setting; {nearest(key, names)}")
        if _is_plain(hints.get(key)):
            convert(value, hints[key], join(path, key))


def _is_plain(hint: Any) -> bool:
    """True for numbers, text, choices, and any of them or nothing."""
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_plain(choice) for choice in get_args(hint))
    return hint in (int, float, bool, str, types.NoneType) or get_origin(hint) is Literal


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a `value` below `low`.

    Raises:
        ValueError: it is below.
    """
    if not value >= low:
        raise ValueError(f"{name}={value}: wanted {low} or more")
