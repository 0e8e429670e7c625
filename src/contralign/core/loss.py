"""The weighted loss in its three forms (equation 5, Algorithm 1, and the released code)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from contralign.core.weights import Form, check_form

RELEASED_EPS = 1e-6


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of every label token, in float32 (float64 stays): equation 2 before the sum.

    Args:
        logits: (tokens, vocab).
        labels: (tokens,) token ids.

    Returns:
        (tokens,) nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, labels, reduction="none")


def cal_loss(nll: Tensor, weights: Tensor, valid: Tensor, form: Form = "exact") -> Tensor:
    """The CAL loss of one batch from its per-token losses and weights.

    Args:
        nll: (batch, seq) per-token loss, carries the gradient; what stands at ignored positions does not count.
        weights: (batch, seq) from `cal_weights`.
        valid: (batch, seq) bool, True at label tokens.
        form: "exact" divides Σ w·nll by Σ w over the batch; "paper" does so in every sample and takes the mean over
            the samples that have labels (equation 5); "released" divides by Σ w + 1e-6 over the batch.

    Returns:
        A scalar. Without any label, or where every weight is 0, it is 0 and still has a graph, so that a distributed
        backward pass does not hang.

    Raises:
        ValueError: unknown form, or shapes that differ.
    """
    check_form(form)
    if not nll.shape == weights.shape == valid.shape or nll.dim() != 2 or valid.dtype != torch.bool:
        raise ValueError(
            f"nll {tuple(nll.shape)}, weights {tuple(weights.shape)}, valid {tuple(valid.shape)} {valid.dtype}: "
            "wanted one shape (batch, seq), valid of bool"
        )
    nll = torch.where(valid, nll, nll.new_zeros(()))
    weights = torch.where(valid, weights.to(nll.dtype), nll.new_zeros(()))
    if form == "paper":
        per_row = _ratio((weights * nll).sum(dim=1), weights.sum(dim=1))
        return _ratio(per_row.sum(), valid.any(dim=1).sum().to(nll.dtype))
    if form == "released":
        return (weights * nll).sum() / (weights.sum() + RELEASED_EPS)
    return _ratio((weights * nll).sum(), weights.sum())


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is 0 (with a graph) where the denominator is 0."""
    empty = denominator == 0
    return numerator / torch.where(empty, torch.ones_like(denominator), denominator)
