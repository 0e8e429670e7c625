"""Plain values become dataclasses, or an error that names the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from contralign.nearest import nearest
from contralign.recipe.schema import RecipeError, check_keywords, convert, from_mapping, merge


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float
    inner: Inner = field(default_factory=Inner)
    by_name: dict[str, Inner] = field(default_factory=dict)

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate={self.rate}: wanted 0 or more")


def test_values_reach_the_innermost_dataclass():
    built = from_mapping(Outer, {"rate": 2, "inner": {"count": 3}, "by_name": {"a": {"count": 4}}})
    assert built == Outer(rate=2.0, inner=Inner(count=3), by_name={"a": Inner(count=4)})
    assert isinstance(built.rate, float)


def test_null_takes_the_default():
    assert from_mapping(Outer, {"rate": 1, "inner": None, "by_name": None}) == Outer(rate=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "top.rate: missing"),
        ({"rate": 1, "by_name": {"a": {"cuont": 1}}}, "top.by_name.a.cuont: unknown setting; did you mean 'count'?"),
        ({"rate": 1, "inner": {"count": "1"}}, "top.inner.count: wanted a whole number, got '1' (str)"),
        ({"rate": -1}, "top: rate=-1.0: wanted 0 or more"),
        ({"rate": None}, "top.rate: wanted a number, got nothing (null)"),
        (3, "top: wanted settings (key: value), got 3"),
    ],
)
def test_an_error_names_the_dotted_place(values, message):
    with pytest.raises(RecipeError) as refused:
        from_mapping(Outer, values, "top")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (1, float, 1.0),
        (None, int | None, None),
        ("a", tuple[str, ...], ("a",)),
        ([1, 2], tuple[int, int], (1, 2)),
        ("b", Literal["a", "b"], "b"),
        (["a"], str | tuple[str, ...], ("a",)),
        ({"x": [1]}, Any, {"x": [1]}),
        ({"x": 1}, Mapping[str, float], {"x": 1.0}),
    ],
)
def test_values_are_bent_no_further_than_numbers_and_lists_of_one(value, hint, wanted):
    assert convert(value, hint, "here") == wanted


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (1, bool),
        ("1", float),
        (1.0, int),
        ([1, 2, 3], tuple[int, int]),
        (True, Literal[1, 2]),
        ([1], dict[str, int]),
        ([1], Mapping[str, int]),
    ],
)
def test_other_types_are_refused(value, hint):
    with pytest.raises(RecipeError, match=r"^here: "):
        convert(value, hint, "here")


def test_merging_goes_all_the_way_down_and_leaves_the_base_alone():
    base = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merge(base, {"a": {"c": [2]}, "d": {"e": 1}}) == {"a": {"b": 1, "c": [2]}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_nearest_names_the_known_even_where_none_is_close():
    assert nearest("widnow", ["window", "alpha"]) == "did you mean 'window'? Known: window, alpha"
    assert nearest("zzz", ["window"]) == "known: window"


def test_keywords_that_the_program_gives_are_no_settings():
    def build(texts, size: int = 1, limit: int | None = None): ...

    check_keywords(build, {"size": 2, "limit": None}, "tiny", given=("texts",))
    with pytest.raises(RecipeError, match=r"tiny\.limit: wanted a whole number, got 'all'"):
        check_keywords(build, {"limit": "all"}, "tiny", given=("texts",))
    with pytest.raises(RecipeError, match=r"tiny\.texts: unknown setting; .*size"):
        check_keywords(build, {"texts": []}, "tiny", given=("texts",))
