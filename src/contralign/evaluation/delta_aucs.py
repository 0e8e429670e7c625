"""Areas under the ROC curve (AUC) of Δ: between kinds of tokens, and between right and wrong pictures."""

import numpy as np
from numpy.typing import NDArray

from contralign.core.settings import Score
from contralign.evaluation.evaluation_set import Numbers
from contralign.evaluation.label_tokens import SCORES, LabelTokens
from contralign.evaluation.metrics.auc import Auc, auc


def token_aucs(tokens: LabelTokens, upper: str, lower: str) -> Numbers:
    """AUC between two kinds of tokens, by score, of raw Δ and of its weight; tokens of one caption are one cluster.

    Args:
        tokens: of samples with spans; if none is of a kind the AUC is None.
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
    """AUC between two groups of captions, by score, of their mean Δ or mean weight.

    Args:
        upper: captions that should score higher; None without any.
        lower: the others.
        paired: both hold the same captions, so that each is one cluster.
        of_weights: mean weights (clamped, pooled) under "SCORE_weight", instead of mean Δ under "SCORE".
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
