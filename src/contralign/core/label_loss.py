"""The loss of label tokens straight from hidden states: Σ coefficient · nll, its gradient exact, memory bounded.

The weights of CAL are known before the loss is taken, so the gradient of every chunk of logits can be made as soon as
the chunk is there, and the chunk thrown away: the vocabulary-sized matrix is made once, a piece at a time, and neither
kept for the backward pass nor made again in it. What stays is the gradient of the rows and of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from contralign.core.delta import token_scores
from contralign.core.head import GatheredHead, Head, LinearHead, OpaqueHead, accurate
from contralign.core.loss import token_nll

CHUNK_BYTES = 256 * 2**20
"""Float32 logits that exist at a time: larger saves no time, smaller goes over the head's gradient more often."""


@dataclass(frozen=True, kw_only=True)
class LabelLoss:
    """What the label tokens of a batch cost.

    Attributes:
        total: Σ coefficient · nll; carries the gradient.
        nll: negative log-likelihood of every label in nats, no gradient.
        correct: True where the label is the most likely word.
    """

    total: Float[Tensor, ""]
    nll: Float[Tensor, " tokens"]
    correct: Bool[Tensor, " tokens"]


def label_loss(
    rows: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, " tokens"],
    coefficients: Float[Tensor, " tokens"],
    head: Head,
    chunk_bytes: int = CHUNK_BYTES,
) -> LabelLoss:
    """Weighted negative log-likelihood of label tokens (equation 5, numerator).

    Args:
        rows: hidden states that the labels are read from.
        labels: token ids.
        coefficients: factor of every token, without gradient; see `contralign.core.loss.token_coefficients`.
        head: a `LinearHead` takes the fused path; any other the plain one, chunk by chunk under checkpointing.
        chunk_bytes: most bytes of float32 logits at a time.
    """
    coefficients = coefficients.detach().to(accurate(rows).dtype)
    if isinstance(head, LinearHead):
        rows, weight, bias = _as_autocast(rows, head.weight, head.bias)
        with torch.autocast(rows.device.type, enabled=False):
            total, nll, correct = _FusedLoss.apply(
                rows, weight, bias, labels, coefficients, head.scale, head.cap, chunk_bytes, torch.is_grad_enabled()
            )
        return LabelLoss(total=total, nll=nll, correct=correct)
    if isinstance(head, GatheredHead):

        def fused(whole: LinearHead, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            found = label_loss(rows, labels, coefficients, whole, chunk_bytes)
            return found.total, found.nll, found.correct

        total, nll, correct = head.within(rows, fused)
        return LabelLoss(total=total, nll=nll, correct=correct)
    return _plain_loss(rows, labels, coefficients, head, chunk_bytes)


def label_scores(
    rows: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, " tokens"],
    head: Head,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[Float[Tensor, " tokens"], Bool[Tensor, " tokens"]]:
    """Log-probability of every label, and whether it is the most likely word. No gradient, chunk by chunk.

    Returns:
        Nats, in float32 (float64 stays); bool.
    """
    if isinstance(head, GatheredHead):
        return head.within(rows, lambda whole, rows: label_scores(rows, labels, whole, chunk_bytes))
    with torch.no_grad():
        scores = accurate(rows).new_empty(labels.shape)
        correct = torch.empty_like(labels, dtype=torch.bool)
        for part in chunks(rows, head, chunk_bytes):
            logits = accurate(head.logits(rows[part]))
            scores[part] = token_scores(logits, labels[part], "logprob")
            correct[part] = logits.argmax(dim=-1) == labels[part]
    return scores, correct


def chunks(rows: Tensor, head: Head, chunk_bytes: int) -> list[slice]:
    """Slices over the rows; one slice even of no rows, so that every rank calls its head."""
    size = max(chunk_bytes // (accurate(rows[:0]).element_size() * head.vocabulary), 1)
    if isinstance(head, OpaqueHead) and head.whole:
        size = max(rows.shape[0], 1)
    return [slice(start, start + size) for start in range(0, max(rows.shape[0], 1), size)]


class _FusedLoss(torch.autograd.Function):
    """Loss and gradients in one go over the chunks; `backward` only scales them."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        coefficients: Tensor,
        scale: float,
        cap: float | None,
        chunk_bytes: int,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        head = LinearHead(weight=weight, bias=bias, scale=scale, cap=cap)
        parts = chunks(rows, head, chunk_bytes)
        wanted = ctx.needs_input_grad[:3] if with_gradients else (False, False, False)
        gradients = _Gradients(rows, head, wanted, len(parts)) if any(wanted) else None
        nll = coefficients.new_empty(labels.shape)
        correct = torch.empty_like(labels, dtype=torch.bool)
        for part in parts:
            logits = accurate(F.linear(rows[part], weight, bias))
            slope = _transform_(logits, scale, cap)
            label = labels[part].unsqueeze(-1)
            label_logit = logits.gather(-1, label)
            top, word = logits.max(dim=-1, keepdim=True)
            shares = logits.sub_(top).exp_()  # logits are gone from here on
            total = shares.sum(dim=-1, keepdim=True)
            nll[part] = (total.log() + top - label_logit).squeeze(-1)
            correct[part] = (word == label).squeeze(-1)
            if gradients is not None:
                coefficient = coefficients[part].unsqueeze(-1)
                slopes = shares.mul_(coefficient / total).scatter_add_(-1, label, -coefficient)
                if slope is not None:
                    slopes.mul_(slope)
                gradients.add(part, slopes.to(rows.dtype))
        ctx.gradients = gradients
        ctx.mark_non_differentiable(nll, correct)
        return (coefficients * nll).sum(), nll, correct

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of the label loss was taken twice: it is given away the first time")
        return (*gradients.scaled_(grad), None, None, None, None, None, None)


class _Gradients:
    """Gradients of rows, weight and bias, summed over chunks; None for what needs none.

    Over several chunks those of a half-precision head are summed in float32.
    """

    def __init__(self, rows: Tensor, head: LinearHead, wanted: tuple[bool, ...], num_chunks: int) -> None:
        self._inputs, self._head = rows, head
        kept = head.weight.dtype if num_chunks == 1 else accurate(head.weight[:0]).dtype
        self.rows = torch.empty_like(rows) if wanted[0] else None
        # Nothing to add to while there is nothing yet: beta = 0 below, so these need no zeros.
        self.weight = torch.empty_like(head.weight, dtype=kept) if wanted[1] else None
        self.bias = torch.zeros_like(head.bias, dtype=kept) if wanted[2] and head.bias is not None else None
        self._begun = False

    def add(self, part: slice, slopes: Tensor) -> None:
        """Of one chunk: `slopes` is the gradient of its raw logits."""
        if self.rows is not None:
            torch.mm(slopes, self._head.weight, out=self.rows[part])
        if self.weight is not None:
            if self.weight.dtype == slopes.dtype:
                self.weight.addmm_(slopes.T, self._inputs[part], beta=float(self._begun))
            else:
                product = _product(slopes.T, self._inputs[part])
                self.weight = self.weight.add_(product) if self._begun else self.weight.copy_(product)
        if self.bias is not None:
            self.bias += accurate(slopes).sum(dim=0)
        self._begun = True

    def scaled_(self, factor: Tensor) -> tuple[Tensor | None, ...]:
        """All three times the factor, in place, and given away: autograd takes a gradient that nobody else holds."""
        given = [
            None if kept is None else kept.mul_(factor).to(self._head.weight.dtype)
            for kept in (self.rows, self.weight, self.bias)
        ]
        self.rows = self.weight = self.bias = None
        return tuple(given)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of half-precision operands, in float32."""
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _transform_(logits: Tensor, scale: float, cap: float | None) -> Tensor | None:
    """Scale and soft-cap in place; the derivative of the transform, None where it is 1."""
    if scale != 1.0:
        logits.mul_(scale)
    if cap is None:
        return None if scale == 1.0 else torch.full((), scale, device=logits.device, dtype=logits.dtype)
    logits.div_(cap).tanh_()
    slope = (1 - logits * logits).mul_(scale)
    logits.mul_(cap)
    return slope


def _as_autocast(rows: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The operands in the dtype that autocast would give a linear layer; as they are where it is off."""
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    elif rows.dtype != weight.dtype:
        dtype = weight.dtype
    else:
        return rows, weight, bias
    return rows.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _plain_loss(rows: Tensor, labels: Tensor, coefficients: Tensor, head: Head, chunk_bytes: int) -> LabelLoss:
    def part_loss(part_rows: Tensor, part_labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = head.logits(part_rows)
        return token_nll(logits, part_labels), logits.argmax(dim=-1) == part_labels

    parts = chunks(rows, head, chunk_bytes)
    if len(parts) == 1:
        nll, correct = part_loss(rows, labels)
    else:
        found = [checkpoint(part_loss, rows[part], labels[part], use_reentrant=False) for part in parts]
        nll, correct = torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])
    return LabelLoss(total=(coefficients * nll).sum(), nll=nll.detach(), correct=correct)
