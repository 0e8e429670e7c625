import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contralign.evaluation.metrics.auc import auc

scores = st.lists(st.integers(-4, 4), min_size=1, max_size=12)


def brute_force(positives, negatives):
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    return sum(pairs) / len(pairs)


@given(scores, scores)
@settings(deadline=None)
def test_equals_counting_all_pairs(positives, negatives):
    assert auc(positives, negatives).value == pytest.approx(brute_force(positives, negatives))


@given(scores, scores)
@settings(deadline=None)
def test_exchanging_the_groups_mirrors_it(positives, negatives):
    assert auc(positives, negatives).value == pytest.approx(1 - auc(negatives, positives).value)


def test_counts_both_groups():
    found = auc([1, 2, 3], [0, 4])
    assert (found.positives, found.negatives) == (3, 2)
    assert found.as_dict()["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(("positives", "negatives"), [([], [1.0]), ([1.0], []), ([], [])])
def test_without_a_group_there_is_no_area(positives, negatives):
    found = auc(positives, negatives)
    assert (found.value, found.low, found.positives, found.negatives) == (None, None, len(positives), len(negatives))


def test_interval_is_delongs_on_the_logit_scale():
    positives, negatives = np.array([3.0, 1.0, 4.0, 2.5, 2.5]), np.array([2.0, 0.5, 2.5, 3.5])
    pairs = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    area = pairs.mean()
    error = math.sqrt(pairs.mean(1).var(ddof=1) / 5 + pairs.mean(0).var(ddof=1) / 4)
    middle, half = math.log(area / (1 - area)), 1.959964 * error / (area * (1 - area))
    found = auc(positives, negatives)
    assert found.low == pytest.approx(1 / (1 + math.exp(half - middle)))
    assert found.high == pytest.approx(1 / (1 + math.exp(-half - middle)))


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(1 / 2))  # positives N(1, 1), negatives N(0, 1)
    found = [auc(rng.normal(1, 1, 60), rng.normal(0, 1, 60)) for _ in range(400)]
    covered = sum(one.low <= truth <= one.high for one in found) / 400
    assert 0.92 <= covered <= 0.98


def test_interval_over_clusters_covers_too_and_ignoring_them_does_not():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(30), 10)
    with_clusters = without = 0
    for _ in range(200):
        shared = {group: rng.normal(0, 1, 30) for group in "pn"}
        positives = 0.5 + shared["p"][clusters] + rng.normal(0, 0.3, 300)
        negatives = shared["n"][clusters] + rng.normal(0, 0.3, 300)
        truth = 0.5 * (1 + math.erf(0.5 / math.sqrt(2 * (1 + 0.09)) / math.sqrt(2)))
        wide = auc(positives, negatives, clusters, clusters)
        narrow = auc(positives, negatives)
        with_clusters += wide.low <= truth <= wide.high
        without += narrow.low <= truth <= narrow.high
    assert with_clusters / 200 >= 0.90
    assert without / 200 <= 0.70


def test_clusters_of_one_change_nothing():
    positives, negatives = [3.0, 1.0, 4.0], [2.0, 0.5, 3.5, 1.0]
    assert auc(positives, negatives, ["a", "b", "c"], ["d", "e", "f", "g"]) == auc(positives, negatives)


def test_a_perfect_area_claims_no_interval():
    found = auc([2.0, 3.0], [0.0, 1.0])
    assert (found.value, found.low, found.high) == (1.0, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, math.nan], [0.0]), "NaN"),
        (([1.0], [0.0], [1], None), "one group alone"),
        (([1.0, 2.0], [0.0], [1], [1]), "one cluster for every score"),
    ],
)
def test_refuses_what_means_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        auc(*arguments)
