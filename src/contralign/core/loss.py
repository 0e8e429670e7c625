"""The weighted loss in its three forms (equation 5, Algorithm 1, and the released code)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contralign.core.settings import Form, check_form

RELEASED_EPS = 1e-6


def token_nll(logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Negative log-likelihood of every label token, in float32 (float64 stays): equation 2 before the sum.

    Returns:
        Nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, labels, reduction="none")


def token_coefficients(
    weights: Float[Tensor, "batch seq"], valid: Bool[Tensor, "batch seq"], form: Form = "exact"
) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, ""]]:
    """What every token's loss is multiplied by, and what the sum is divided by: the loss before any loss is known.

    The loss of an optimizer step is Σ coefficient · nll / Σ denominator over everything that makes the step: all its
    micro-batches, on all ranks.

    Args:
        weights: from `cal_weights`.
        valid: True at label tokens.
        form: "exact": the weight, over Σ w. "paper": the weight as a share of its sample's (equation 5), over the
            number of samples with a label. "released": the weight over the micro-batch's Σ w + 1e-6, over 1, so that
            micro-batches are averaged as they come.

    Returns:
        Coefficients, 0 where nothing is labelled; a scalar.

    Raises:
        ValueError: unknown form, or shapes that differ.
    """
    check_form(form)
    if weights.shape != valid.shape or weights.dim() != 2 or valid.dtype != torch.bool:
        raise ValueError(
            f"weights {tuple(weights.shape)} and valid {tuple(valid.shape)} {valid.dtype}: "
            "wanted one shape (batch, seq), valid of bool"
        )
    weights = torch.where(valid, weights, weights.new_zeros(()))
    if form == "paper":
        return ratio(weights, weights.sum(dim=1, keepdim=True)), valid.any(dim=1).sum().to(weights.dtype)
    if form == "released":
        return weights / (weights.sum() + RELEASED_EPS), weights.new_ones(())
    return weights, weights.sum()


def loss_terms(
    nll: Float[Tensor, "batch seq"],
    weights: Float[Tensor, "batch seq"],
    valid: Bool[Tensor, "batch seq"],
    form: Form = "exact",
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Numerator and denominator of the loss: what micro-batches and ranks add up before anybody divides.

    Args:
        nll: per-token loss, carries the gradient; what stands at ignored positions does not count.
        weights: from `cal_weights`.
        valid: True at label tokens.
        form: see `token_coefficients`.

    Returns:
        Two scalars; only the first has a graph, and it has one even without any label, so that a distributed backward
        pass does not hang.

    Raises:
        ValueError: unknown form, or shapes that differ.
    """
    nll = nll if nll.dtype == torch.float64 else nll.float()
    if nll.shape != valid.shape:
        raise ValueError(f"nll {tuple(nll.shape)} and valid {tuple(valid.shape)}: wanted one shape (batch, seq)")
    coefficients, denominator = token_coefficients(weights.to(nll.dtype), valid, form)
    return (coefficients * torch.where(valid, nll, nll.new_zeros(()))).sum(), denominator


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
