"""Two ways of training compared in pairs of equal seed: the mean difference, how sure it is, and whether it is chance.

Pairs of equal seed have the same start and the same order of the data, so that what seeds have in common cancels. With
few seeds the three answers differ:

- The t interval takes differences to be normal and pays for not knowing their spread. At 5 normal differences it covers
  95 %: it is the one to report.
- The percentile bootstrap over seeds assumes nothing, but it takes the spread of 5 differences for the true one: it is
  too narrow by √((n − 1)/n) and by the lack of the t quantile, and covers about 83 % at 5 seeds and 90 % at 10 (the
  tests measure it).
- The sign-flip test is exact whatever the distribution, where differences are symmetric about 0 under chance; with n
  pairs its p cannot be below 2/2ⁿ: 0.0625 at 5 seeds.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contralign.evaluation.metrics.estimate import Measured

EXACT_UP_TO = 16
"""Most pairs of which all 2ⁿ sign flips are counted; beyond them flips are drawn."""
DRAWS = 10_000
CHUNK = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference(Measured):
    """A mean difference of pairs with its 95 % intervals.

    Attributes:
        mean: of the differences; None without pairs.
        low: lower end of the t interval; None with fewer than two pairs.
        high: its upper end.
        p: two-sided, of the t test against 0; None with fewer than two pairs.
        bootstrap_low: lower end of the percentile bootstrap interval over pairs.
        bootstrap_high: its upper end.
        sign_flip_p: two-sided, of the sign-flip test.
        n: pairs.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    sign_flip_p: float | None = None
    n: int


def paired_difference(values: ArrayLike, reference: ArrayLike, draws: int = DRAWS, seed: int = 0) -> PairedDifference:
    """`values` minus `reference`, pair by pair.

    Args:
        values: (n,) numbers.
        reference: (n,) numbers of the same pairs in the same order.
        draws: resamples of the bootstrap, and sign flips where there are too many to count them all.
        seed: of the draws.

    Raises:
        ValueError: other numbers of values and references, or one that is not finite.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"{first.shape} values and {second.shape} references: wanted one of each for every pair")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a value that is not finite has no difference: leave its pair out")
    return mean_of(first - second, draws, seed)


def mean_of(values: ArrayLike, draws: int = DRAWS, seed: int = 0) -> PairedDifference:
    """The mean of independent numbers, such as one a seed, with the same intervals; p is against a mean of 0.

    Args:
        values: (n,) finite numbers.
        draws: see `paired_difference`.
        seed: of the draws.
    """
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    if n == 0:
        return PairedDifference(mean=None, n=0)
    middle = float(numbers.mean())
    if n == 1:
        return PairedDifference(mean=middle, n=1)
    error = float(numbers.std(ddof=1)) / math.sqrt(n)
    half = t_quantile(0.975, n - 1) * error
    draw = np.random.default_rng(seed)
    low, high = _bootstrap(numbers, draws, draw)
    return PairedDifference(
        mean=middle,
        low=middle - half,
        high=middle + half,
        p=_t_test(middle, error, n - 1),
        bootstrap_low=low,
        bootstrap_high=high,
        sign_flip_p=_sign_flip(numbers, draws, draw),
        n=n,
    )


def t_tail(t: float, degrees: int) -> float:
    """P(T > t) of Student's t with a whole number of degrees of freedom.

    By the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.

    Raises:
        ValueError: no degrees of freedom.
    """
    if degrees < 1:
        raise ValueError(f"degrees={degrees}: wanted 1 or more")
    angle = math.atan2(t, math.sqrt(degrees))
    cosine2 = math.cos(angle) ** 2
    odd = degrees % 2
    term, total = 1.0, 0.0
    for k in range(degrees // 2):
        total += term
        term *= cosine2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    sine = math.sin(angle)
    within = 2 / math.pi * (angle + sine * math.cos(angle) * total) if odd else sine * total
    return (1 - within) / 2


def t_quantile(probability: float, degrees: int) -> float:
    """The t below which Student's T lies with a probability in [0.5, 1), by bisection.

    Raises:
        ValueError: another probability, or no degrees of freedom.
    """
    if not 0.5 <= probability < 1:
        raise ValueError(f"probability={probability}: wanted one in [0.5, 1)")
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - probability else (low, middle)
    return (low + high) / 2


def _t_test(middle: float, error: float, degrees: int) -> float:
    if error == 0:
        return 1.0 if middle == 0 else 0.0
    return min(2 * t_tail(abs(middle) / error, degrees), 1.0)


def _bootstrap(numbers: NDArray[np.float64], draws: int, draw: np.random.Generator) -> tuple[float, float]:
    n = len(numbers)
    sizes = [CHUNK] * (draws // CHUNK) + [draws % CHUNK]
    means = np.concatenate([numbers[draw.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _sign_flip(numbers: NDArray[np.float64], draws: int, draw: np.random.Generator) -> float:
    """Share of the sign patterns whose sum is as far from 0 as the true one, which is one of them."""
    seen = abs(numbers.sum()) - 1e-12 * np.abs(numbers).sum()
    if len(numbers) <= EXACT_UP_TO:
        flips = np.array(list(itertools.product((-1.0, 1.0), repeat=len(numbers))))
        return float((np.abs(flips @ numbers) >= seen).mean())
    as_far = sum(
        int((np.abs((draw.integers(2, size=(size, len(numbers))) * 2.0 - 1) @ numbers) >= seen).sum())
        for size in [CHUNK] * (draws // CHUNK) + [draws % CHUNK]
    )
    return (as_far + 1) / (draws + 1)
