import numpy as np
import pytest

from contralign.evaluation.metrics.mean import mean


def test_without_clusters_it_is_the_textbook_interval():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = mean(values)
    half = 1.959964 * values.std(ddof=1) / 2
    assert (found.value, found.low, found.high, found.n) == pytest.approx((3.5, 3.5 - half, 3.5 + half, 4))


def test_copies_in_a_cluster_add_no_certainty():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    copied = mean(np.repeat(values, 9), clusters=np.repeat(["a", "b", "c", "d"], 9))
    assert (copied.low, copied.high) == pytest.approx((mean(values).low, mean(values).high))


def test_clustered_interval_covers_and_the_other_does_not():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 10)
    covered = naive = 0
    for _ in range(300):
        values = rng.normal(0, 1, 40)[clusters] + rng.normal(0, 0.2, 400)
        wide, narrow = mean(values, clusters), mean(values)
        covered += wide.low <= 0 <= wide.high
        naive += narrow.low <= 0 <= narrow.high
    assert covered / 300 >= 0.91
    assert naive / 300 <= 0.70


def test_one_cluster_has_no_interval():
    found = mean([1.0, 3.0], clusters=["a", "a"])
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_nothing_has_no_mean():
    assert mean([]).value is None
