"""Results in the terminal."""

import io

from rich.console import Console

from contralign.cli.actions.execute import printed


def shown(results, width=100):
    console = Console(file=io.StringIO(), width=width)
    for table in printed(results):
        console.print(table)
    return console.file.getvalue()


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 10}


def test_a_number_stands_under_its_arm_with_its_interval():
    lines = shown(
        {"mle": {"answers": {"accuracy": estimate(0.5)}}, "cal": {"answers": {"accuracy": estimate(0.75)}}}
    ).splitlines()
    assert any(line.split() == ["mle", "cal"] for line in lines)
    assert any("50.0 % (40.0 to 60.0)" in line and "75.0 % (65.0 to 85.0)" in line for line in lines)


def test_an_unknown_evaluation_is_printed_as_it_is():
    assert "0.125" in shown({"cal": {"mine": {"score": 0.125}}})


def test_folded_tables_are_left_to_the_page():
    by_type = {"types": {"COLOUR": {"accuracy": estimate(0.3)}}, "accuracy": estimate(0.5)}
    assert "COLOUR" not in shown({"cal": {"answers": by_type}})


def test_names_are_printed_and_never_read_as_markup():
    assert "[bold]x" in shown({"cal": {"mine": {"[bold]x": 1}}})


def test_without_evaluations_nothing_is_printed():
    assert shown({"mle": {}, "cal": {}}) == ""
