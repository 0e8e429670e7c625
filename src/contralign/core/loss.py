"""The weighted loss in its three forms (equation 5, Algorithm 1, and the released code)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.core.weights import Form, check_form

RELEASED_EPS = 1e-6


def token_nll(logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Negative log-likelihood of every label token, in float32 (float64 stays): equation 2 before the sum.

    Returns:
        Nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, labels, reduction="none")


def loss_terms(
    nll: Float[Tensor, "batch seq"],
    weights: Float[Tensor, "batch seq"],
    valid: Bool[Tensor, "batch seq"],
    form: Form = "exact",
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Numerator and denominator of the loss: what micro-batches and ranks add up before anybody divides.

    The loss of an optimizer step is Σ numerator / Σ denominator over everything that makes the step.

    Args:
        nll: per-token loss, carries the gradient; what stands at ignored positions does not count.
        weights: from `cal_weights`.
        valid: True at label tokens.
        form: "exact": Σ w·nll over Σ w. "paper": the sum of every sample's own Σ w·nll / Σ w (equation 5) over the
            number of samples with a label. "released": the micro-batch's Σ w·nll / (Σ w + 1e-6) over 1, so that
            micro-batches are averaged as they come.

    Returns:
        Two scalars; only the first has a graph, and it has one even without any label, so that a distributed backward
        pass does not hang.

    Raises:
        ValueError: unknown form, or shapes that differ.
    """
    check_form(form)
    if not nll.shape == weights.shape == valid.shape or nll.dim() != 2 or valid.dtype != torch.bool:
        raise ValueError(
            f"nll {tuple(nll.shape)}, weights {tuple(weights.shape)}, valid {tuple(valid.shape)} {valid.dtype}: "
            "wanted one shape (batch, seq), valid of bool"
        )
    nll = nll if nll.dtype == torch.float64 else nll.float()
    zero = nll.new_zeros(())
    nll = torch.where(valid, nll, zero)
    weights = torch.where(valid, weights.to(nll.dtype), zero)
    if form == "paper":
        per_row = ratio((weights * nll).sum(dim=1), weights.sum(dim=1))
        return per_row.sum(), valid.any(dim=1).sum().to(nll.dtype)
    if form == "released":
        return (weights * nll).sum() / (weights.sum() + RELEASED_EPS), torch.ones_like(zero)
    return (weights * nll).sum(), weights.sum()


def cal_loss(
    nll: Float[Tensor, "batch seq"],
    weights: Float[Tensor, "batch seq"],
    valid: Bool[Tensor, "batch seq"],
    form: Form = "exact",
) -> Float[Tensor, ""]:
    """The CAL loss of one batch from its per-token losses and weights (equation 5).

    Arguments and errors are those of `loss_terms`.

    Returns:
        A scalar. Without any label, or where every weight is 0, it is 0 and still has a graph.
    """
    return ratio(*loss_terms(nll, weights, valid, form))


def ratio(numerator: Float[Tensor, "*any"], denominator: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Quotient that is 0, with a graph, where the denominator is 0 (the numerator is then 0 too)."""
    return numerator / torch.where(denominator == 0, torch.ones_like(denominator), denominator)
