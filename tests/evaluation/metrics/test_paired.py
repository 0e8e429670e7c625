import math

import numpy as np
import pytest

from contralign.evaluation.metrics.paired import mean_of, paired_difference, t_quantile, t_tail


def test_numbers_by_hand():
    found = paired_difference([3.0, 5.0, 7.0], [1.0, 4.0, 4.0])
    assert found.n == 3
    assert found.mean == 2
    error = 1 / math.sqrt(3)
    assert found.high - 2 == pytest.approx(4.302653 * error, rel=1e-6)
    assert 2 - found.low == pytest.approx(4.302653 * error, rel=1e-6)
    t = 2 / error
    assert found.p == pytest.approx(2 * (0.5 - t / (2 * math.sqrt(2 + t * t))), rel=1e-9)
    assert found.sign_flip_p == 2 / 8
    assert 1 <= found.bootstrap_low < 2 < found.bootstrap_high <= 3


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (5, 2.57058), (9, 2.26216), (100, 1.98397)]
)
def test_quantiles_are_those_of_the_tables(degrees, quantile):
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-5)


def test_tails_are_symmetric_and_reach_the_normal_ones():
    assert t_tail(0, 7) == 0.5
    assert t_tail(-1.3, 7) == pytest.approx(1 - t_tail(1.3, 7))
    assert t_tail(1.959964, 100_000) == pytest.approx(0.025, abs=1e-5)


def test_pairs_matter():
    """Seeds that differ much and move together: the difference is sure though the values overlap."""
    start = np.array([0.2, 0.5, 0.8, 0.35, 0.6])
    gain = np.array([0.010, 0.012, 0.009, 0.011, 0.010])
    assert paired_difference(start + gain, start).low > 0.008
    assert paired_difference((start + gain)[::-1], start).low < 0


def test_a_swap_of_the_two_turns_the_sign():
    there, back = paired_difference([1, 2, 4], [0, 3, 1]), paired_difference([0, 3, 1], [1, 2, 4])
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert (there.p, there.sign_flip_p) == pytest.approx((back.p, back.sign_flip_p))


def test_one_pair_has_no_interval_and_none_has_nothing():
    one = paired_difference([2.0], [1.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert {one.low, one.high, one.p, one.bootstrap_low, one.bootstrap_high, one.sign_flip_p} == {None}
    assert mean_of([]).mean is None


def test_equal_arms_differ_by_nothing():
    same = paired_difference([0.3, 0.4, 0.5], [0.3, 0.4, 0.5])
    assert (same.mean, same.low, same.high, same.p, same.sign_flip_p) == (0, 0, 0, 1, 1)


def test_a_constant_gain_is_no_chance_by_t_and_as_small_as_flips_allow():
    gain = paired_difference([1.0, 2.0, 3.0, 4.0, 5.0], [0.5, 1.5, 2.5, 3.5, 4.5])
    assert gain.p == 0
    assert gain.sign_flip_p == 2 / 2**5


def test_many_pairs_draw_their_flips():
    draw = np.random.default_rng(1)
    numbers = draw.normal(0.5, 1, size=20)
    exact_like, by_t = mean_of(numbers, draws=20_000).sign_flip_p, mean_of(numbers).p
    assert exact_like == pytest.approx(by_t, abs=0.02)
    assert mean_of(np.full(20, 1.0)).sign_flip_p == pytest.approx(1 / 10_001)


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\) values and \(3,\) references"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not finite"):
        paired_difference([1, float("nan")], [1, 2])


def test_draws_repeat_themselves():
    assert mean_of([1, 2, 4, 8]) == mean_of([1, 2, 4, 8])
    assert mean_of([1, 2, 4, 8], seed=1).bootstrap_low == pytest.approx(mean_of([1, 2, 4, 8]).bootstrap_low, abs=0.3)


@pytest.mark.parametrize(("n", "bootstrap"), [(5, (0.80, 0.88)), (10, (0.87, 0.93))])
def test_at_few_seeds_the_t_interval_covers_what_it_says_and_the_bootstrap_does_not(n, bootstrap):
    """Why tables show the t interval: 1,000 experiments of n normal differences whose true mean is 0."""
    draw = np.random.default_rng(0)
    found = [mean_of(draw.normal(size=n), draws=1000, seed=number) for number in range(1000)]
    by_t = np.mean([one.low <= 0 <= one.high for one in found])
    by_bootstrap = np.mean([one.bootstrap_low <= 0 <= one.bootstrap_high for one in found])
    assert 0.93 <= by_t <= 0.97
    assert bootstrap[0] <= by_bootstrap <= bootstrap[1]
