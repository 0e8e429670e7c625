"""A user's mistake is one message and exit code 2; a fault of the program keeps its traceback."""

import json
from pathlib import Path

import pytest
import typer

from contralign.checkpoints.run_errors import NotFinite, Stopped
from contralign.cli.user_errors import is_user_error, report_user_errors
from contralign.recipe.model_settings import LoraSettings
from contralign.recipe.schema import RecipeError, from_mapping


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def no_rank():
    from_mapping(LoraSettings, {"r": 0}, "model.lora")


@pytest.mark.parametrize(
    ("function", "is_mistake"),
    [
        (no_rank, True),
        (lambda: Path("no such file").read_text(), True),
        (lambda: json.loads("{"), False),
        (lambda: int("x"), False),
        (lambda: [][0], False),
    ],
    ids=["our ValueError", "missing file", "ValueError of a library", "ValueError of Python", "IndexError"],
)
def test_only_what_contralign_refused_and_missing_files_are_mistakes(function, is_mistake):
    assert is_user_error(caught(function)) == is_mistake


def test_a_mistake_ends_in_a_message_and_code_2(capsys):
    with pytest.raises(typer.Exit) as left, report_user_errors(debug=False):
        no_rank()
    assert left.value.exit_code == 2
    shown = capsys.readouterr().err
    assert "Error: model.lora: r=0: wanted 1 or more" in shown
    assert "Traceback" not in shown


def test_debug_lets_a_mistake_through():
    with pytest.raises(ValueError, match="r=0"), report_user_errors(debug=True):
        no_rank()


def test_a_fault_is_never_hidden():
    with pytest.raises(ZeroDivisionError), report_user_errors(debug=False):
        1 / 0  # noqa: B018


def test_recipe_errors_are_value_errors():
    assert issubclass(RecipeError, ValueError)


@pytest.mark.parametrize(
    ("run_error", "code"), [(NotFinite("step 3: the loss is nan"), 3), (Stopped("stopped by X"), 75)]
)
def test_a_run_error_is_one_message_and_its_code(run_error, code, capsys):
    with pytest.raises(typer.Exit) as left, report_user_errors(debug=False):
        raise run_error
    assert left.value.exit_code == code
    shown = capsys.readouterr().err
    assert f"Stopped: {run_error}" in shown
    assert "Traceback" not in shown
    with pytest.raises(type(run_error)), report_user_errors(debug=True):
        raise run_error
