"""Numbers of the tables against hand computation."""

import math

import pytest
from worlds.small_ablations import made_results

from contralign.ablation.summary.comparison import comparison_lines, costs, shown_rows, summaries
from contralign.ablation.summary.results import Results

T2 = 4.302652729911275
"""Student's t of 97.5 % at 2 degrees of freedom."""
NOISE = {
    ("0", "mle"): [0.50, 0.60, 0.70],
    ("0", "cal"): [0.52, 0.63, 0.74],
    ("0.5", "mle"): [0.40, 0.50, 0.60],
    ("0.5", "cal"): [0.39, 0.50, 0.61],
}


def by_row(results):
    return {tuple(one.row.values()): one for one in summaries(results, results.ablation.metrics[0])}


def with_equal_keys(results, *rows):
    """The results with some rows resting on the same cells."""
    measured = [
        one if tuple(one.row.values()) not in rows else type(one)(**{**fields(one), "key": f"same-{one.seed}"})
        for one in results.measured
    ]
    return Results(ablation=results.ablation, measured=tuple(measured), machine=results.machine)


def fields(one):
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_means_and_paired_differences_by_hand():
    found = by_row(made_results(NOISE))
    mle = found["0", "mle"]
    assert mle.comparisons == (None,)
    assert mle.mean.mean == pytest.approx(0.6)
    assert mle.mean.high == pytest.approx(0.6 + T2 * 0.1 / math.sqrt(3))
    cal = found["0", "cal"].comparisons[0]
    assert cal.reference == {"noise": "0", "arm": "mle"}
    assert cal.by_seed == pytest.approx({0: 0.02, 1: 0.03, 2: 0.04})
    assert cal.difference.mean == pytest.approx(0.03)
    assert cal.difference.low == pytest.approx(0.03 - T2 * 0.01 / math.sqrt(3))
    t = 0.03 / (0.01 / math.sqrt(3))
    assert cal.difference.p == pytest.approx(2 * (0.5 - t / (2 * math.sqrt(2 + t * t))))
    assert found["0.5", "cal"].comparisons[0].difference.mean == pytest.approx(0)


def test_a_value_may_be_the_reference():
    found = by_row(made_results(NOISE, reference={"noise": "0"}))
    assert found["0", "cal"].comparisons == (None,)
    assert found["0.5", "cal"].comparisons[0].difference.mean == pytest.approx(-0.13)
    assert found["0.5", "mle"].comparisons[0].difference.mean == pytest.approx(-0.1)


def test_a_reference_may_fix_several_axes_and_there_may_be_several():
    found = by_row(made_results(NOISE, reference=[{"noise": "0", "arm": "mle"}, "mle"]))
    one, other = found["0.5", "cal"].comparisons
    assert one.difference.mean == pytest.approx(-0.1)
    assert other.difference.mean == pytest.approx(0)


def test_only_seeds_that_both_have_are_compared():
    found = by_row(made_results({("0", "mle"): [0.5, 0.6, None], ("0", "cal"): [0.6, None, 0.7]}))
    assert found["0", "cal"].comparisons[0].by_seed == pytest.approx({0: 0.1})
    assert found["0", "cal"].comparisons[0].difference.low is None
    assert found["0", "cal"].mean.n == 2


def test_a_row_without_its_reference_is_not_compared():
    assert by_row(made_results({("0", "cal"): [1.0]}, reference={"arm": "mle"}))["0", "cal"].comparisons == (None,)


def test_better_seeds_follow_the_direction_of_the_metric():
    numbers = {("0", "mle"): [1.0, 1.0, 1.0], ("0", "cal"): [0.5, 1.0, 2.0]}
    for better, wanted in (("higher", (1, 1)), ("lower", (1, 1))):
        results = made_results(numbers, better=better)
        assert by_row(results)["0", "cal"].comparisons[0].better_seeds(results.ablation.metrics[0]) == wanted
    results = made_results({**numbers, ("0", "cal"): [0.5, 0.7, 2.0]}, better="lower")
    assert by_row(results)["0", "cal"].comparisons[0].better_seeds(results.ablation.metrics[0]) == (2, 1)


def test_rows_that_rest_on_the_same_cells_are_shown_once():
    """β does not change plain training: one line of MLE for every β, compared with nothing."""
    numbers = {("3", "mle"): [1, 2], ("5", "mle"): [1, 2], ("3", "cal"): [2, 2], ("5", "cal"): [3, 3]}
    results = with_equal_keys(made_results(numbers, axes=("beta",)), ("3", "mle"), ("5", "mle"))
    assert [shown for _, shown in shown_rows(results)] == [
        {"beta": "any", "arm": "mle"},
        {"beta": "3", "arm": "cal"},
        {"beta": "5", "arm": "cal"},
    ]


def test_rows_that_are_compared_with_different_cells_are_not_one():
    numbers = {("3", "mle"): [1, 2], ("5", "mle"): [1, 2], ("3", "cal"): [2, 2], ("5", "cal"): [3, 3]}
    made = made_results(numbers, axes=("beta",), reference="cal")
    results = with_equal_keys(made, ("3", "mle"), ("5", "mle"))
    assert [shown["beta"] for _, shown in shown_rows(results)] == ["3", "5", "3", "5"]


def test_cost_is_relative_to_the_reference_of_the_same_seed():
    found = {cost.row["arm"]: cost for cost in costs(made_results(NOISE, seconds={"mle": 2.0, "cal": 3.0}))}
    assert (found["mle"].seconds, found["mle"].ratio) == (0.2, None)
    assert (found["cal"].seconds, found["cal"].ratio, found["cal"].n) == (pytest.approx(0.3), pytest.approx(1.5), 3)


def test_flat_lines_hold_both_kinds_of_interval():
    lines = list(comparison_lines(made_results(NOISE)))
    assert len(lines) == 4
    cal = lines[1]
    assert (cal["noise"], cal["arm"], cal["reference"], cal["seeds"], cal["pairs"]) == ("0", "cal", "mle", 3, 3)
    assert cal["t_low"] < cal["bootstrap_low"] < cal["difference"] < cal["bootstrap_high"] < cal["t_high"]
    assert cal["sign_flip_p"] == 0.25
    assert lines[0]["difference"] is None
