from rich.console import Console
from worlds.small_ablations import made_results

from contralign.ablation.summary.tables import as_markdown, for_terminal, number, p_words, tables

NUMBERS = {("0", "mle"): [0.50, 0.60, 0.70], ("0", "cal"): [0.52, 0.63, 0.74]}


def test_a_table_holds_means_differences_intervals_and_p():
    table = tables(made_results(NUMBERS, label="visual | right", unit="%"))[0]
    assert table.title == "visual | right (%): mean over seeds (95 %), higher is better"
    assert table.columns == ("noise", "arm", "seeds", "mean (95 %)", "− mle (95 %)", "p")
    assert table.rows == (
        ("0", "mle", "3", "60.0 (35.2 to 84.8)", "", ""),
        ("0", "cal", "3", "63.0 (35.7 to 90.3)", "+3.0 (+0.5 to +5.5)", "0.035"),
    )


def test_one_seed_has_no_interval_and_says_so():
    table = tables(made_results({row: values[:1] for row, values in NUMBERS.items()}, unit="nats"))[0]
    assert table.rows[1][3:] == ("0.520 (one seed: no interval)", "+0.020 (one seed: no interval)", "")


def test_second_opinions_and_cost_follow():
    found = tables(made_results(NUMBERS))
    assert [table.folded for table in found] == [False, True, False]
    assert found[1].columns[2:] == ("− mle (bootstrap 95 %)", "sign-flip p", "seeds better / worse")
    assert found[1].rows[1][3:] == ("0.25", "3 / 0")
    assert found[2].rows[1] == ("0", "cal", "3", "0.100", "1.00 (1.00 to 1.00)")


def test_markdown_escapes_what_would_end_a_cell():
    table = tables(made_results({("a|b", "mle"): [1.0], ("a|b", "cal"): [2.0]}))[0]
    text = as_markdown(table)
    assert "| a\\|b | cal |" in text
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_terminal_shows_labels_as_they_are(capsys):
    Console(width=200).print(for_terminal(tables(made_results({("[1, 5]", "mle"): [1.0]}, axes=("clamp",)))[0]))
    assert "[1, 5]" in capsys.readouterr().out


def test_numbers_are_written_in_their_unit():
    share, nats = (made_results(NUMBERS, unit=unit).ablation.metrics[0] for unit in ("%", "nats"))
    assert number(0.1234, share) == "12.3"
    assert number(-0.1234, nats, signed=True) == "−0.123"
    assert number(0.1234, nats, signed=True) == "+0.123"
    assert [p_words(p) for p in (None, 0.0000123, 0.0312, 1.0)] == ["", "< 0.0001", "0.031", "1"]
