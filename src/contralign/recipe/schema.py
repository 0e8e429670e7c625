"""Plain YAML values into dataclasses, by pydantic; every error names the dotted place, what came and what was wanted.

Values are read strictly, as JSON: text is no number, true is no 1, a list is a tuple, and unknown keys are refused.
The dataclasses stay ordinary ones: types and ranges are their annotations, what settings must agree on is checked in
their `__post_init__`.
"""

import dataclasses
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

from contralign.contrast.registry import respelled
from contralign.nearest import nearest
from contralign.training.cal_settings import CalSettings

T = TypeVar("T")
MOST_VALUES = 100_000
"""A recipe has hundreds. YAML's aliases can make billions out of a few lines."""

Positive = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]


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
        raise RecipeError(f"recipe: more than {MOST_VALUES:,} values; are aliases (*) nested?")
    if isinstance(value, Mapping):
        if _without_none(kind) is CalSettings:
            try:
                value = respelled(value, path)
            except ValueError as error:
                raise RecipeError(str(error)) from error
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
    if isinstance(value, bool) and get_origin(kind) is Literal:
        raise RecipeError(_not_among(path, value, get_args(kind)))  # to Python, and so to pydantic, True is 1
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


@dataclasses.dataclass
class _Place:
    """Where in the values a mistake is: its dotted name, that of the section around it, the setting and what came."""

    dotted: str
    section: str
    section_kind: Any
    name: str
    value: Any

    @property
    def kind(self) -> Any:
        return kind_at(self.section_kind, self.name) if self.name else self.section_kind


def _find(error: ErrorDetails, kind: Any, values: Any, path: str) -> _Place:
    found = _Place(path, path, kind, "", values)
    for part in error["loc"]:
        if isinstance(part, int) and isinstance(found.value, list):
            found.dotted += f"[{part}]"
            found.value = found.value[part] if part < len(found.value) else None
        elif isinstance(found.value, Mapping) and (part in found.value or error["type"] == "missing"):
            dotted = join(found.dotted, str(part))
            found = _Place(dotted, found.dotted, found.kind, str(part), found.value.get(part))
        # else it is the name that pydantic gives to one choice of several
    return found


def _message(error: ErrorDetails, kind: Any, values: Any, path: str) -> str:
    """One mistake: dotted place, what came, what was wanted."""
    at, context = _find(error, kind, values, path), error.get("ctx", {})
    match error["type"]:
        case "unexpected_keyword_argument":
            return f"{at.dotted}: unknown setting; {nearest(at.name, fields_of(at.section_kind))}"
        case "missing" if not at.dotted.endswith("]"):
            return f"{at.dotted}: missing; every {at.section or 'recipe'} needs it"
        case "missing" | "too_long":
            count = len(get_args(_without_none(at.kind)))
            return f"{at.dotted.partition('[')[0]}: wanted {count} values, got {error['input']!r}"
        case "value_error":
            return f"{at.dotted or 'recipe'}: {context['error']}"
        case "literal_error":
            return _not_among(at.dotted, at.value, re.findall(r"'([^']*)'", context["expected"]))
        case "dict_type" | "dataclass_type":
            return f"{at.dotted or 'recipe'}: wanted settings (key: value), got {at.value!r}"
    if context.keys() & {"ge", "gt", "le", "lt"}:
        value = float(at.value) if _without_none(at.kind) is float else at.value
        return f"{at.section or 'recipe'}: {at.name}={value}: wanted {_range(at.kind)}"
    wanted = get_args(_without_none(at.kind))[0] if at.dotted.endswith("]") else at.kind
    return f"{at.dotted}: wanted {describe(wanted)}, got {describe_value(at.value)}"


def _not_among(place: str, value: Any, choices: Iterable[Any]) -> str:
    return f"{place}: got {value!r}; {nearest(str(value), map(str, choices))}"


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
