"""The table of docs/models.md: every line measured again, and a wrong line noticed."""

import importlib
from pathlib import Path

import pytest
from worlds.families.registry import FAMILIES

from contralign.models.adapters.verified import VERIFIED_MODELS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("model_table")


def shown(script):
    return script.table_on(script.PAGE.read_text(encoding="utf-8")).splitlines()


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_says_what_is_measured(script, name):
    lines = [line for line in shown(script) if line.startswith(f"| {name} |")]
    assert len(lines) == 1
    assert script.agree(script.line_of(FAMILIES[name]), lines[0])


def test_the_page_has_a_line_for_every_family_and_a_note_for_every_number(script):
    head, rule, *lines = shown(script)
    assert head == script.HEAD and head.count("|") == rule.count("|")
    assert [line.split("|")[1].strip() for line in lines] == list(FAMILIES)
    page = script.PAGE.read_text(encoding="utf-8")
    for number in range(1, 7):
        assert any(f"({number})" in line for line in lines) and f"\n{number}. **" in page


def test_the_classes_that_reading_trusts_are_those_that_the_page_calls_right_both_ways(script):
    rows = [[cell.strip() for cell in line.split("|")] for line in shown(script)[2:]]
    assert {row[2].strip("`") for row in rows if row[3:5] == ["yes", "yes"]} == VERIFIED_MODELS


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("| a | yes | 1e-06 |", "| a | yes | 0 |", True),
        ("| a | yes | 8.9e+00 |", "| a | yes | 8.5e+00 |", True),
        ("| a | yes | 8.9e+00 |", "| a | yes | 2.0e-05 |", False),
        ("| a | yes | 3e-04 |", "| a | yes | 0 |", False),
        ("| a | yes | 0 |", "| a | no | 0 |", False),
        ("| a | yes | 0 |", "| a | yes | – |", False),
        ("| a | 0 |", "| a | yes | 0 |", False),
    ],
)
def test_figures_may_differ_by_rounding_and_words_not_at_all(script, one, other, alike):
    assert script.agree(one, other) == alike
