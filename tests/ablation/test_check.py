"""A recorded cell run again: the same numbers pass, a wrong one is caught."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds.small_ablations import looks, made_directory

from contralign.ablation.check import (
    TOLERANCE,
    Checked,
    CheckedCell,
    choose_cell,
    largest_difference,
    other_seeds,
    run_again,
)
from contralign.ablation.summary.results import collect
from contralign.ablation.worker import Worker
from contralign.recipe.schema import RecipeError


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    torch.set_num_threads(1)
    directory, ablation, planned = made_directory(tmp_path_factory.mktemp("check"), grid={})
    Worker(directory, planned, looks()).run()
    return ablation, planned, collect(ablation, planned, directory)


def test_a_cell_run_again_has_the_numbers_that_are_recorded_and_a_wrong_one_is_caught(recorded, tmp_path):
    ablation, planned, results = recorded
    one = choose_cell(planned, results, "arm=cal seed=1", 0)
    agreeing = run_again(ablation, one, results, tmp_path / "again", looks())
    assert [checked.agrees for checked in agreeing.numbers] == [True, True]
    assert [checked.metric.path for checked in agreeing.numbers] == ["look.right", "look.loss"]
    assert agreeing.to_the_last_digit
    assert [checked.allowed for checked in agreeing.numbers] == [TOLERANCE] * 2
    forged = [
        replace(number, value=number.value + 2e-6) if (number.key, number.path) == (one.key, "look.loss") else number
        for number in results.measured
    ]
    caught = run_again(ablation, one, replace(results, measured=tuple(forged)), tmp_path / "forged", looks())
    assert [checked.agrees for checked in caught.numbers] == [True, False]
    assert [checked.can_be_judged for checked in caught.numbers] == [True, True]


def elsewhere(results, machine, other_seeds=(), moved=0.0):
    """The results as if recorded on another machine: numbers of other seeds added, those of seed 1 moved."""
    measured = [
        replace(one, machine=machine, value=one.value + moved if one.seed == 1 else one.value)
        for one in results.measured
    ]
    added = [
        replace(one, machine=machine, seed=2 + number, value=one.value + step)
        for one in results.measured
        for number, step in enumerate(other_seeds)
        if one.seed == 0
    ]
    return replace(results, measured=(*measured, *added))


@pytest.fixture(scope="module")
def again(recorded, tmp_path_factory):
    """Check arm=cal seed=1 against given results; it is run once."""
    ablation, planned, results = recorded
    one = choose_cell(planned, results, "arm=cal seed=1", 0)

    def check(against):
        return run_again(ablation, one, against, tmp_path_factory.mktemp("again"), looks())

    return check


def test_on_another_machine_numbers_are_held_to_the_spread_over_the_other_seeds(recorded, again):
    results = recorded[2]
    machine = {**results.measured[0].machine, "processor": "another", "threads": "7"}
    spread = elsewhere(results, machine, other_seeds=[0.1, -0.1], moved=0.2)
    inside = again(spread)
    assert not inside.to_the_last_digit
    assert "spread over seeds" in inside.comparison
    assert "processor 'another', here" in inside.comparison
    assert "threads '7', here '1'" in inside.comparison
    assert "torch" not in inside.comparison
    assert [number.agrees for number in inside.numbers] == [True, True]
    bound = 4.302653 * math.sqrt(2) * 0.1  # t with 2 degrees of freedom; the deviation of 0, 0.1 and -0.1 is 0.1
    assert [number.allowed for number in inside.numbers] == [pytest.approx(bound, rel=1e-6)] * 2
    outside = again(elsewhere(results, machine, other_seeds=[0.1, -0.1], moved=0.62))
    assert [(number.agrees, number.can_be_judged) for number in outside.numbers] == [(False, True)] * 2


def test_a_machine_that_is_unknown_is_another_one_and_few_seeds_settle_nothing(recorded, again):
    results = recorded[2]
    few = again(elsewhere(results, {}, moved=0.2))
    assert few.comparison == "compared with the spread over seeds (95 %): the machine of the recorded result is unknown"
    assert [(number.agrees, number.can_be_judged) for number in few.numbers] == [(False, False)] * 2
    equal = again(elsewhere(results, {}))
    assert [(number.agrees, number.can_be_judged) for number in equal.numbers] == [(True, True)] * 2


def test_a_wrong_number_does_not_widen_its_own_bound(recorded):
    results = elsewhere(recorded[2], {}, other_seeds=[0.1, -0.1], moved=1000.0)
    one = next(one for one in results.measured if one.seed == 1)
    assert len(other_seeds(one, results)) == 3
    assert largest_difference(other_seeds(one, results)) < 1


def test_two_draws_of_one_distribution_are_within_the_bound_in_95_of_100():
    draws = np.random.default_rng(0).normal(size=(20_000, 6))
    inside = [abs(new - old) <= largest_difference(list(others)) for new, old, *others in draws]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.006)


def test_fewer_than_two_other_seeds_give_no_bound_and_equal_ones_allow_a_millionth(recorded):
    assert largest_difference([0.5]) is None
    metric = recorded[0].metrics[0]
    equal = Checked(metric=metric, recorded=0.5, again=0.5 + 5e-7, allowed=largest_difference([0.5, 0.5]))
    assert equal.agrees
    assert not replace(equal, again=0.5 + 2e-6).agrees
    missing = Checked(metric=metric, recorded=0.5, again=None, allowed=None)
    assert (missing.agrees, missing.can_be_judged) == (False, True)


def test_the_same_machine_is_compared_to_the_last_digit_and_says_so():
    cell = CheckedCell(numbers=(), recorded_on={"processor": "a"}, here={"processor": "a"})
    assert cell.to_the_last_digit
    assert cell.comparison.startswith("compared to the last digit: processor, kernels, threads and versions are")


def test_a_cell_that_fails_again_says_why(recorded, tmp_path):
    ablation, planned, results = recorded

    def bind(recipe):
        return {"look": lambda arm, folder: {}["gone"]}

    with pytest.raises(RuntimeError, match="KeyError: 'gone'"):
        run_again(ablation, planned[0], results, tmp_path / "again", bind)


def test_cells_are_chosen_by_key_name_or_draw(recorded):
    _, planned, results = recorded
    by_key = choose_cell(planned, results, planned[2].key, 0)
    assert by_key is planned[2]
    assert choose_cell(planned, results, "seed=1 arm=mle", 0) is planned[2]
    drawn = {choose_cell(planned, results, None, seed).key for seed in range(20)}
    assert len(drawn) == 4
    assert choose_cell(planned, results, None, 7) is choose_cell(planned, results, None, 7)


def test_what_is_not_recorded_cannot_be_checked(recorded):
    _, planned, results = recorded
    with pytest.raises(RecipeError, match="no such cell among the recorded ones; did you mean 'arm=cal seed=0'"):
        choose_cell(planned, results, "arm=cla seed=0", 0)
    with pytest.raises(RecipeError, match="run it first, or give its numbers with --results"):
        choose_cell(planned, replace(results, measured=()), None, 0)


def test_numbers_agree_to_a_millionth_and_nothing_agrees_with_nothing_alone(recorded):
    metric = recorded[0].metrics[0]

    def agrees(one, other):
        return Checked(metric=metric, recorded=one, again=other).agrees

    assert agrees(0.5, 0.5 + 5e-7)
    assert not agrees(0.5, 0.5 + 2e-6)
    assert agrees(None, None)
    assert not agrees(None, 0.5)
