"""docs/api.md says what the docstrings say."""

import importlib
from pathlib import Path

import pytest

import contralign

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("make_api")


def test_the_page_is_that_of_today(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "a docstring or a public name changed: make docs"


def test_every_public_name_has_an_entry_with_its_arguments_and_methods(script):
    lines = script.page().splitlines()
    for name in contralign.__all__:
        assert lines.count(f"### {name}") == 1
    assert "    contrast: str | Mapping[str, Any] | Contrast = 'drop'," in lines
    assert "#### CalConfig.adaptive" in lines and "@classmethod" in lines
    assert not any(line.startswith("#### ") and "._" in line and "__call__" not in line for line in lines)


def test_a_signature_that_does_not_fit_on_a_line_has_a_line_for_each_argument(script):
    assert "class Turn(role: Role, text: str, learnt: bool = True)" in script.page()
    assert "def cal_weights(\n    delta: Float[Tensor, 'batch seq'],\n" in script.page()
