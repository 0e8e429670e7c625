"""Things that come in clusters: the tokens of one caption share a picture and are not so many independent trials.

Intervals that count every token as its own trial are too narrow; these let only the captions be independent.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cluster_numbers(clusters: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """Clusters as 0, 1, 2 …; None makes everything its own cluster.

    Raises:
        ValueError: not one cluster for each of `count` things.
    """
    if clusters is None:
        return np.arange(count)
    given = np.asarray(clusters)
    if given.shape != (count,):
        raise ValueError(f"clusters of shape {given.shape} for {count} values: wanted one cluster for every value")
    return np.unique(given, return_inverse=True)[1]


def residual_variance(residuals: NDArray[np.float64], clusters: NDArray[np.int64]) -> float | None:
    """Variance of a mean whose residuals are independent between clusters alone; None for a single cluster.

    The linearised variance of a ratio of cluster totals (sampling theory's "ultimate clusters"):
    I / (I − 1) · Σᵢ (Σⱼ rᵢⱼ)² / n². With clusters of one it is s² / n.
    """
    totals = np.bincount(clusters, weights=residuals)
    if len(totals) < 2:
        return None
    return float(len(totals) / (len(totals) - 1) * np.square(totals).sum() / len(residuals) ** 2)
