"""A mean with an interval that knows which values belong together."""

import math

import numpy as np
from numpy.typing import ArrayLike

from contralign.evaluation.metrics.clusters import cluster_numbers, residual_variance
from contralign.evaluation.metrics.estimate import Z95, Estimate


def mean(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Mean of all values, each counted once, with a normal interval.

    Args:
        values: (n,) numbers.
        clusters: (n,) name of the cluster of every value; only clusters count as independent. None: every value does.

    Raises:
        ValueError: shapes that do not fit.
    """
    numbers = np.asarray(values, dtype=np.float64)
    groups = cluster_numbers(clusters, len(numbers))
    if not len(numbers):
        return Estimate(value=None, n=0)
    middle = float(numbers.mean())
    variance = residual_variance(numbers - middle, groups)
    if variance is None:
        return Estimate(value=middle, n=len(numbers))
    half = Z95 * math.sqrt(variance)
    return Estimate(value=middle, low=middle - half, high=middle + half, n=len(numbers))
