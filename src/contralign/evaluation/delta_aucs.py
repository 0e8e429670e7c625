"""What Δ tells apart, as areas under the ROC curve: kinds of tokens, right and wrong pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contralign.core.delta import Score
from contralign.evaluation.label_tokens import SCORES, LabelTokens
from contralign.evaluation.metrics.auc import Auc, auc

Numbers = dict[str, Any]


def token_aucs(tokens: LabelTokens, upper: str, lower: str) -> Numbers:
    """Area by score, as Δ comes and as training sees it; tokens of one caption are one cluster.

    Args:
        tokens: of samples with spans; where none is of a kind the area is None.
        upper: kind of the tokens that should score higher.
        lower: kind of the others.

    Returns:
        `Auc` as a dict under every score of `SCORES` and under its name with "_weight".
    """
    above, below = tokens.kind == upper, tokens.kind == lower

    def of(values: NDArray[np.float64]) -> Numbers:
        return auc(values[above], values[below], tokens.sample[above], tokens.sample[below]).as_dict()

    raw = {score: of(tokens.delta[score]) for score in SCORES}
    return raw | {f"{score}_weight": of(tokens.weight[score]) for score in SCORES}


def caption_aucs(
    upper: LabelTokens | None, lower: LabelTokens | None, paired: bool, of_weights: bool = False
) -> Numbers:
    """Area of the captions' mean Δ, or of their mean weight, by score.

    Args:
        upper: captions that should score higher; None where there are none.
        lower: the others.
        paired: both hold the same captions, and the two readings of one belong together.
        of_weights: mean weights instead, clamped and pooled, under the names of the scores with "_weight".
    """
    names: dict[Score, str] = {score: f"{score}_weight" if of_weights else score for score in SCORES}
    if upper is None or lower is None:
        empty = Auc(value=None, positives=len(upper.ids) if upper else 0, negatives=len(lower.ids) if lower else 0)
        return {name: empty.as_dict() for name in names.values()}
    clusters = (np.arange(len(upper.ids)), np.arange(len(lower.ids))) if paired else (None, None)
    return {
        name: auc(upper.caption_means(score, of_weights), lower.caption_means(score, of_weights), *clusters).as_dict()
        for score, name in names.items()
    }
