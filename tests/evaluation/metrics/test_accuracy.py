import math

import numpy as np
import pytest

from contralign.evaluation.metrics.accuracy import accuracy, exact_match, normalise, wilson


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Yes.", "yes"),
        ("  a  red\ncircle ", "a red circle"),
        ("'Blue'!", "blue"),
        ("-5", "-5"),
        ("3.5", "3.5"),
        ("", ""),
    ],
)
def test_normalise_lowers_joins_blanks_and_strips_ends(answer, normal):
    assert normalise(answer) == normal


def test_exact_match_keeps_articles_and_signs_apart():
    assert exact_match("Circle.", "circle")
    assert not exact_match("a circle", "circle")
    assert not exact_match("-5", "5")


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (1, 10), (37, 80), (10, 10)])
def test_wilson_ends_are_the_shares_whose_score_test_just_rejects(hits, trials):
    share = hits / trials
    low, high = wilson(share, trials)
    for end in {low, high} - {0.0, 1.0}:
        z = abs(share - end) / math.sqrt(end * (1 - end) / trials)
        assert z == pytest.approx(1.959964, rel=1e-6)
    assert low <= share <= high


@pytest.mark.parametrize(("share", "trials"), [(0.5, 0), (1.5, 10), (-0.1, 3)])
def test_wilson_refuses_what_is_no_share(share, trials):
    with pytest.raises(ValueError, match="wanted a share"):
        wilson(share, trials)


def test_accuracy_is_the_share_with_wilsons_interval():
    found = accuracy([True] * 7 + [False] * 3)
    assert (found.value, found.n) == (0.7, 10)
    assert (found.low, found.high) == pytest.approx(wilson(0.7, 10))


def test_copies_of_a_trial_in_a_cluster_add_no_certainty():
    once = accuracy([True] * 7 + [False] * 3, clusters=range(10))
    copied = accuracy(np.repeat([True] * 7 + [False] * 3, 20), clusters=np.repeat(np.arange(10), 20))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert copied.n == 200


def test_clusters_never_make_an_interval_narrower_than_independence():
    alternating = accuracy([True, False] * 20, clusters=np.repeat(np.arange(20), 2))
    assert (alternating.low, alternating.high) == pytest.approx(wilson(0.5, 20))


def test_where_all_are_right_the_clusters_are_the_trials():
    found = accuracy([True] * 40, clusters=np.repeat(np.arange(8), 5))
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 8))


def test_nothing_measured_is_none():
    assert accuracy([]).as_dict() == {"value": None, "low": None, "high": None, "n": 0}


def test_refuses_clusters_that_do_not_fit():
    with pytest.raises(ValueError, match="one cluster for every value"):
        accuracy([True, False], clusters=[1])
