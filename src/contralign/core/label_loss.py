"""The loss of label tokens straight from hidden states: Σ coefficient · nll, its gradient exact, memory bounded.

The weights of CAL are known before the loss is taken, so the gradient of every chunk of logits can be made as soon as
the chunk is there, and the chunk thrown away: the vocabulary-sized matrix is made once, a piece at a time, and neither
kept for the backward pass nor made again in it. What stays is the gradient of the rows and of the head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from contralign.core.head import GatheredHead, Head, LinearHead, upcast
from contralign.core.label_readings import CHUNK_BYTES, chunks
from contralign.core.loss import token_nll


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
    coefficients = coefficients.detach().to(upcast(rows).dtype)
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
        room = _Room(rows, head, parts[0])
        for part in parts:
            logits = room.logits(rows[part])
            bend = _transform_(logits, scale, cap)
            label = labels[part].unsqueeze(-1)
            label_logit = logits.gather(-1, label)
            top, word = logits.max(dim=-1, keepdim=True)
            shares = torch.softmax(logits, dim=-1, out=logits)  # logits are gone from here on
            nll[part] = (top - shares.gather(-1, word).log() - label_logit).squeeze(-1)
            correct[part] = (word == label).squeeze(-1)
            if gradients is not None:
                factor = scale * coefficients[part].unsqueeze(-1)
                slopes = shares.mul_(factor).scatter_add_(-1, label, -factor)
                if bend is not None:
                    slopes.mul_(bend)
                gradients.add(part, room.narrow(slopes))
        ctx.gradients = gradients
        ctx.mark_non_differentiable(nll, correct)
        return (coefficients * nll).sum(), nll, correct

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of the label loss was taken twice: it is given away the first time")
        return (*gradients.scaled_(grad), None, None, None, None, None, None)


class _Room:
    """Memory for the logits of one chunk, and in half precision for a float32 copy too: taken once, for all chunks."""

    def __init__(self, rows: Tensor, head: LinearHead, largest: slice) -> None:
        self._head = head
        self._raw = rows.new_empty(rows[largest].shape[0], head.vocabulary)
        precise = upcast(rows[:0]).dtype
        self._accurate = self._raw if rows.dtype == precise else torch.empty_like(self._raw, dtype=precise)

    def logits(self, rows: Tensor) -> Tensor:
        """Of one chunk, before scale and soft-cap, in float32 (float64 stays)."""
        raw, weight, bias = self._raw[: rows.shape[0]], self._head.weight, self._head.bias
        if bias is None:
            torch.mm(rows, weight.T, out=raw)
        else:
            torch.addmm(bias, rows, weight.T, out=raw)
        return raw if self._accurate is self._raw else self._accurate[: rows.shape[0]].copy_(raw)

    def narrow(self, slopes: Tensor) -> Tensor:
        """The same in the dtype of the rows; in half precision over the raw logits, which are done with."""
        return slopes if self._accurate is self._raw else self._raw[: slopes.shape[0]].copy_(slopes)


class _Gradients:
    """Gradients of rows, weight and bias, summed over chunks; None for what needs none.

    Over several chunks those of a half-precision head are summed in float32.
    """

    def __init__(self, rows: Tensor, head: LinearHead, wanted: tuple[bool, ...], num_chunks: int) -> None:
        self._inputs, self._head = rows, head
        kept = head.weight.dtype if num_chunks == 1 else upcast(head.weight[:0]).dtype
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
            _add_product_(self.weight, slopes.T, self._inputs[part], beta=float(self._begun))
        if self.bias is not None:
            self.bias += upcast(slopes).sum(dim=0)
        self._begun = True

    def scaled_(self, factor: Tensor) -> tuple[Tensor | None, ...]:
        """All three times the factor, in place, and given away: autograd takes a gradient that nobody else holds."""
        one = factor.is_cpu and bool(factor == 1)  # to ask a GPU would cost more than the multiplication
        given = [
            None if kept is None else (kept if one else kept.mul_(factor)).to(self._head.weight.dtype)
            for kept in (self.rows, self.weight, self.bias)
        ]
        self.rows = self.weight = self.bias = None
        return tuple(given)


def _add_product_(total: Tensor, left: Tensor, right: Tensor, beta: float) -> None:
    """Left @ right into `beta` times the total; half-precision operands are multiplied and added in its dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=beta)
    elif not total.is_cuda:
        total.addmm_(left.to(total.dtype), right.to(total.dtype), beta=beta)
    elif torch.__version__ >= "2.10":  # before, CUDA could not add such a product to a float32 matrix in place
        torch.addmm(total, left, right, beta=beta, out_dtype=total.dtype, out=total)
    else:
        product = torch.mm(left, right, out_dtype=total.dtype)
        total.copy_(product) if beta == 0 else total.add_(product)


def _transform_(logits: Tensor, scale: float, cap: float | None) -> Tensor | None:
    """Scale and soft-cap in place; the derivative of the soft-cap, None where there is none."""
    if scale != 1.0:
        logits.mul_(scale)
    if cap is None:
        return None
    logits.div_(cap).tanh_()
    bend = logits.square().neg_().add_(1)
    logits.mul_(cap)
    return bend


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
