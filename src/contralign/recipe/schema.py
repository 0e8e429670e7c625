"""Plain YAML values into dataclasses, by pydantic; every error names the dotted place, what came and what was wanted.

Values are read strictly, as JSON: text is no number, true is no 1, a list is a tuple, and unknown keys are refused.
The dataclasses stay ordinary ones: types and ranges are their annotations, what settings must agree on is checked in
their `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

T = TypeVar("T")
MOST_VALUES = 100_000
"""A recipe has hundreds. YAML's aliases can make billions out of a few lines."""

Positive = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]


class RecipeError(ValueError):
    """A recipe, or an override on the command line, that cannot be followed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name closest to `name`, and all known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    names = ", ".join(known) or "none"
    return f"did you mean {close[0]!r}? Known: {names}" if close else f"known: {names}"


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
        kind: a dataclass; its own `__post_init__` checks what its settings must agree on.
        values: what the YAML held.
        path: dotted place of `values` in the recipe, for messages.

    Raises:
        RecipeError: unknown or missing settings, values of the wrong type or out of range, a ValueError of
            `__post_init__`: every mistake of one kind in a line.
    """
    return convert(values, kind, path)


def convert(value: Any, kind: Any, path: str) -> Any:
    """`value` as the type `kind`: whole numbers pass for floats, one value for a list of one, nothing else is bent.

    Raises:
        RecipeError: see `from_mapping`.
    """
    checked = _plain_values(value, kind, path, [0])
    try:
        return _reader(kind).validate_json(json.dumps(checked), strict=True, extra="forbid")
    except ValidationError as error:
        messages = [_message(one, kind, checked, path) for one in error.errors(include_url=False)]
        raise RecipeError("\n".join(dict.fromkeys(messages))) from None


@functools.cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain_values(value: Any, kind: Any, path: str, count: list[int]) -> Any:
    """`value` as JSON can hold it: single values in the list that `kind` wants, no nulls that stand for a default."""
    count[0] += 1
    if count[0] > MOST_VALUES:
        raise RecipeError(
            f"{path.split('.')[0] or 'recipe'}: more than {MOST_VALUES:,} values; are aliases (*) nested?"
        )
    if isinstance(value, Mapping):
        fields = fields_of(kind)
        return {
            str(key): _plain_values(item, kind_at(kind, str(key)), join(path, str(key)), count)
            for key, item in value.items()
            if item is not None or _null_says_something(fields.get(str(key)))
        }
    if isinstance(value, list | tuple):
        return [_plain_values(item, Any, f"{path}[{index}]", count) for index, item in enumerate(value)]
    if value is not None and get_origin(_without_none(kind)) is tuple:
        return _plain_values([value], kind, path, count)
    if value is None or isinstance(value, str | int | float):
        return value
    raise RecipeError(f"{path or 'recipe'}: wanted text, numbers, lists or settings, got {describe_value(value)}")


def _null_says_something(field: dataclasses.Field[Any] | None) -> bool:
    return field is None or field.default is None or _is_required(field)


def fields_of(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """The settings of a dataclass, or of a dataclass that may be None; empty for any other type."""
    kind = _without_none(kind)
    return {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}


def kind_at(kind: Any, name: str) -> Any:
    """The type of what stands under `name` in a value of type `kind`; Any where nothing is known of it."""
    kind = _without_none(kind)
    if dataclasses.is_dataclass(kind):
        return _hints(kind).get(name, Any)
    return get_args(kind)[1] if get_origin(kind) in (dict, Mapping) and get_args(kind) else Any


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _without_none(kind: Any) -> Any:
    """A type without its annotations, and without None where there is one other choice."""
    if get_origin(kind) is Annotated:
        return _without_none(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not types.NoneType]
        return _without_none(choices[0]) if len(choices) == 1 else kind
    return kind


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _message(error: ErrorDetails, kind: Any, values: Any, path: str) -> str:
    """One mistake: dotted place, what came, what was wanted."""
    place, outer, name, came = path, path, "", values
    for part in error["loc"]:
        inside = (isinstance(came, Mapping) and part in came) or (isinstance(came, list) and isinstance(part, int))
        if not inside and error["type"] != "missing":
            continue  # the name that pydantic gives to one choice of several
        if isinstance(part, str):
            outer, kind, name = place, kind_at(kind, name) if name else kind, part
        place = f"{place}[{part}]" if isinstance(part, int) else join(place, str(part))
        came = came[part] if inside and not (isinstance(part, int) and part >= len(came)) else None
    section = outer or "recipe"
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{place}: unknown setting; {nearest(name, fields_of(kind))}"
        case "missing" | "too_long" if not isinstance(error["loc"][-1], str) or error["type"] == "too_long":
            items = get_args(_without_none(kind_at(kind, name)))
            whole = place if error["type"] == "too_long" else place.rpartition("[")[0]
            return f"{whole}: wanted {len(items)} values, got {error['input']!r}"
        case "missing":
            return f"{place}: missing; every {section} needs it"
        case "value_error":
            reason = error.get("ctx", {})["error"]
            return str(reason) if isinstance(reason, RecipeError) else f"{place or 'recipe'}: {reason}"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", error.get("ctx", {})["expected"])
            return f"{place}: got {came!r}; {nearest(str(came), choices)}"
    wanted = kind_at(kind, name) if name else kind
    bounds = error.get("ctx", {})
    if bounds.keys() & {"ge", "gt", "le", "lt"}:
        value = float(came) if _without_none(wanted) is float else came
        return f"{section}: {name}={value}: wanted {_range(wanted)}"
    if error["type"] in ("dict_type", "dataclass_type"):
        return f"{place or 'recipe'}: wanted settings (key: value), got {came!r}"
    return f"{place}: wanted {describe(wanted if place[-1:] != ']' else _item(wanted))}, got {describe_value(came)}"


def _item(kind: Any) -> Any:
    items = get_args(_without_none(kind))
    return items[0] if items else kind


def _range(kind: Any) -> str:
    """The bounds of an annotated number in words."""
    while get_origin(kind) is not Annotated:
        kind = next(choice for choice in get_args(kind) if choice is not types.NoneType)
    bounds = {type(bound): bound for bound in get_args(kind)[1:]}
    if Le in bounds or Lt in bounds:
        return "a share in [0, 1]" if Le in bounds else "a share in [0, 1)"
    return f"a number above {bounds[Gt].gt}" if Gt in bounds else f"{bounds[Ge].ge} or more"


def describe(kind: Any) -> str:
    """A type in the words of a recipe's writer."""
    kind = _without_none(kind)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "settings"}
    if kind in words:
        return words[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(describe(choice) for choice in get_args(kind) if choice is not types.NoneType)
    if get_origin(kind) is tuple:
        return f"a list of {describe(get_args(kind)[0])}"
    return getattr(kind, "__name__", str(kind))


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


def _is_plain(kind: Any) -> bool:
    """True for numbers, text, choices, and any of them or nothing."""
    if get_origin(kind) in (Union, types.UnionType):
        return all(_is_plain(choice) for choice in get_args(kind))
    return kind in (int, float, bool, str, types.NoneType) or get_origin(kind) is Literal
