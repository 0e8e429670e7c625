"""Δ: how much the picture changes the score of each label token (paper, equation 1 and section 2.2.2)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contralign.core.settings import Score, check_score


def token_scores(
    logits: Float[Tensor, "*tokens vocab"], labels: Int[Tensor, "*tokens"], score: Score = "logit"
) -> Float[Tensor, "*tokens"]:
    """Score of every label token under one pass, in float32 (float64 stays).

    Args:
        logits: after the model's own final transform (soft-capping, scale).
        labels: token ids, all inside the vocabulary; put 0 where nothing is labelled.
        score: "logit" is the paper's raw logit. Raw logits carry an arbitrary offset at every position; two scores take
            it away: "centred" subtracts the mean logit over the vocabulary, "logprob" the log-sum-exp.

    Returns:
        One number a token: a logit, or nats.

    Raises:
        ValueError: unknown score, or shapes that do not fit.
    """
    check_score(score)
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} do not fit labels of shape {tuple(labels.shape)}: "
            "wanted labels.shape + (vocab,)"
        )
    logits = logits if logits.dtype == torch.float64 else logits.float()
    picked = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if score == "logit":
        return picked
    return picked - (logits.mean(-1) if score == "centred" else logits.logsumexp(-1))


def contrast_delta(
    logits: Float[Tensor, "*tokens vocab"],
    contrast_logits: Float[Tensor, "*tokens vocab"],
    labels: Int[Tensor, "*tokens"],
    score: Score = "logit",
) -> Float[Tensor, "*tokens"]:
    """Δ of every label token: its score with the picture minus its score without (section 2.2.2). No gradient.

    Args:
        logits: from the pass that sees the picture.
        contrast_logits: from the pass that does not.
        labels: token ids, shifted so that position t holds the label that position t predicts; 0 where nothing
            is labelled (the released code reads token 0 there).
        score: see `token_scores`.

    Returns:
        Δ, detached: weights carry no gradient.

    Raises:
        ValueError: the two passes differ in shape, or `token_scores` refuses.
    """
    if logits.shape != contrast_logits.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and contrast_logits {tuple(contrast_logits.shape)} differ: "
            "both passes must score the same label tokens"
        )
    with torch.no_grad():
        return token_scores(logits, labels, score) - token_scores(contrast_logits, labels, score)
