"""Area under the ROC curve: how often a positive scores above a negative."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contralign.evaluation.metrics.estimate import Z95, Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc(Measured):
    """An area under the ROC curve.

    Attributes:
        value: 0.5 where the score tells nothing, 1 where every positive is above every negative; None without one of
            the two groups.
        low: lower end of the 95 % interval; None where it cannot be had.
        high: upper end.
        positives: size of the group that should score higher.
        negatives: size of the other.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    positives: int
    negatives: int


def auc(
    positives: ArrayLike,
    negatives: ArrayLike,
    positive_clusters: ArrayLike | None = None,
    negative_clusters: ArrayLike | None = None,
) -> Auc:
    """The share of (positive, negative) pairs in which the positive scores higher; ties count half.

    The interval is DeLong's (1988), with Obuchowski's (1997) extension to clusters, on the logit scale, so that it
    stays within [0, 1]. At an area of exactly 0 or 1 the variance is 0 and says nothing: there is no interval.

    Args:
        positives: (m,) scores.
        negatives: (n,) scores.
        positive_clusters: (m,) cluster of every positive, such as its caption; the same name in both groups is the same
            cluster. None, for both groups: every score is independent.
        negative_clusters: (n,) likewise.

    Raises:
        ValueError: NaN among the scores, clusters of one group alone, or not one for every score.
    """
    above, below = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    if np.isnan(above).any() or np.isnan(below).any():
        raise ValueError("NaN among the scores: it is neither above nor below another")
    clusters = _joint_clusters(positive_clusters, negative_clusters, len(above), len(below))
    if not len(above) or not len(below):
        return Auc(value=None, positives=len(above), negatives=len(below))
    won = _share_below(above, below)
    lost = 1 - _share_below(below, above)
    area = float(won.mean())
    low, high = _logit_interval(area, _variance(won - area, lost - area, *clusters))
    return Auc(value=area, low=low, high=high, positives=len(above), negatives=len(below))


def _share_below(scores: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every score the share of the others that are below it, ties as halves."""
    ranked = np.sort(others)
    return (np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")) / (2 * len(others))


def _joint_clusters(
    of_positives: ArrayLike | None, of_negatives: ArrayLike | None, num_positives: int, num_negatives: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if (of_positives is None) != (of_negatives is None):
        raise ValueError("clusters of one group alone: give those of both, or of neither")
    if of_positives is None or of_negatives is None:
        numbers = np.arange(num_positives + num_negatives)
        return numbers[:num_positives], numbers[num_positives:]
    first, second = np.asarray(of_positives), np.asarray(of_negatives)
    if first.shape != (num_positives,) or second.shape != (num_negatives,):
        raise ValueError(
            f"clusters of shape {first.shape} and {second.shape} for {num_positives} positives and {num_negatives} "
            "negatives: wanted one cluster for every score"
        )
    numbers = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    return numbers[:num_positives], numbers[num_positives:]


def _variance(
    won: NDArray[np.float64], lost: NDArray[np.float64], won_in: NDArray[np.int64], lost_in: NDArray[np.int64]
) -> float | None:
    """Obuchowski's variance from centred structural components; DeLong's where every cluster has one member."""
    count = int(max(won_in.max(), lost_in.max())) + 1
    won_totals = np.bincount(won_in, weights=won, minlength=count)
    lost_totals = np.bincount(lost_in, weights=lost, minlength=count)
    num_won, num_lost = len(np.unique(won_in)), len(np.unique(lost_in))
    if num_won < 2 or num_lost < 2:
        return None
    m, n = len(won), len(lost)
    between_won = num_won / (num_won - 1) * np.square(won_totals).sum() / m**2
    between_lost = num_lost / (num_lost - 1) * np.square(lost_totals).sum() / n**2
    shared = count / (count - 1) * (won_totals * lost_totals).sum() / (m * n)
    return float(between_won + between_lost + 2 * shared)


def _logit_interval(area: float, variance: float | None) -> tuple[float | None, float | None]:
    if variance is None or variance <= 0 or not 0 < area < 1:
        return None, None
    middle = math.log(area / (1 - area))
    half = Z95 * math.sqrt(variance) / (area * (1 - area))
    return 1 / (1 + math.exp(half - middle)), 1 / (1 + math.exp(-half - middle))
