"""A recorded cell run again: the same numbers pass, a wrong one is caught."""

from dataclasses import replace

import pytest
from worlds.small_ablations import looks, made_directory

from contralign.ablation.check import Checked, choose_cell, run_again
from contralign.ablation.summary.results import collect
from contralign.ablation.worker import Worker
from contralign.recipe.schema import RecipeError


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    directory, ablation, planned = made_directory(tmp_path_factory.mktemp("check"), grid={})
    Worker(directory, planned, looks()).run()
    return ablation, planned, collect(ablation, planned, directory)


def test_a_cell_run_again_has_the_numbers_that_are_recorded_and_a_wrong_one_is_caught(recorded, tmp_path):
    ablation, planned, results = recorded
    one = choose_cell(planned, results, "arm=cal seed=1", 0)
    agreeing = run_again(ablation, one, results, tmp_path / "again", looks())
    assert [checked.agrees for checked in agreeing] == [True, True]
    assert [checked.metric.path for checked in agreeing] == ["look.right", "look.loss"]
    forged = [
        replace(number, value=number.value + 2e-6) if (number.key, number.path) == (one.key, "look.loss") else number
        for number in results.measured
    ]
    caught = run_again(ablation, one, replace(results, measured=tuple(forged)), tmp_path / "forged", looks())
    assert [checked.agrees for checked in caught] == [True, False]


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
