"""Shares of right answers: how answers are compared, and how sure one can be of the share."""

import math
import re

import numpy as np
from numpy.typing import ArrayLike

from contralign.evaluation.metrics.clusters import cluster_numbers, residual_variance
from contralign.evaluation.metrics.estimate import Z95, Estimate

_ENDS = " .,;:!?\"'"


def normalise(answer: str) -> str:
    """An answer as it is compared: lower case, runs of white space as one blank, no ``. , ; : ! ? " '`` at its ends.

    Nothing else: articles, plurals, signs and numerals stay, so "a circle" is not "circle" and "-5" is not "5".
    """
    return re.sub(r"\s+", " ", answer.casefold()).strip(_ENDS)


def exact_match(answer: str, reference: str) -> bool:
    """Whether two answers are the same once normalised."""
    return normalise(answer) == normalise(reference)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share seen in n trials; n need not be whole.

    Raises:
        ValueError: no trials, or a share outside of [0, 1].
    """
    if n <= 0 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} in {n} trials: wanted a share in [0, 1] and at least one trial")
    z2 = Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At a share of 0 or 1 the interval ends there; rounding must not move it past.
    return (0.0 if share == 0 else max(middle - half, 0.0)), (1.0 if share == 1 else min(middle + half, 1.0))


def accuracy(correct: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Share of True, with Wilson's interval.

    With clusters the trials are as many as the clustered variance is worth, p (1 − p) / var, and never more than the
    values; where every value is the same, and the variance says nothing, they are as many as the clusters.

    Args:
        correct: (n,) bool.
        clusters: (n,) name of the cluster of every value; None: every value is independent.

    Raises:
        ValueError: shapes that do not fit.
    """
    values = np.asarray(correct, dtype=np.float64)
    groups = cluster_numbers(clusters, len(values))
    if not len(values):
        return Estimate(value=None, n=0)
    share = float(values.mean())
    low, high = wilson(share, _trials(values, groups, share, clustered=clusters is not None))
    return Estimate(value=share, low=low, high=high, n=len(values))


def _trials(values: np.ndarray, groups: np.ndarray, share: float, clustered: bool) -> float:
    if not clustered:
        return len(values)
    variance = residual_variance(values - share, groups)
    if not variance:
        return int(groups.max()) + 1
    return min(share * (1 - share) / variance, len(values))
