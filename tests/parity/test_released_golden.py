"""The golden vector of spec section 1.3 and the released arithmetic of section 1.2, forward and gradient.

Two rows of five shifted positions, α = 1, β = 5, W = 3. Every wanted number is a fraction worked out by hand.
"""

from fractions import Fraction as Frac

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contralign.core.delta import contrast_delta
from contralign.core.loss import cal_loss, token_nll
from contralign.core.reference import reference_loss, reference_released, reference_weights
from contralign.core.weights import cal_weights

LABELS = torch.tensor([[-100, -100, 7, 8, 2], [-100, 9, 2, -100, -100]])
VALID = LABELS != -100
DELTA = torch.tensor([[3, -2, 6, 0.5, 4], [2, 9, -1, 0, 0]], dtype=torch.float64)  # token 0's Δ where ignored
NLL = torch.tensor([[0, 0, 1, 2, 0.5], [0, 4, 0.25, 0, 0]], dtype=torch.float64)
NLL_AT_LABELS = [Frac(1), Frac(2), Frac(1, 2), Frac(4), Frac(1, 4)]

# Clamped Δ: row 0 = [3, 1, 5, 1, 4], row 1 = [2, 5, 1, 1, 1].
RELEASED_WEIGHTS = [
    Frac(1 + 5 + 1, 3),
    Frac(5 + 1 + 4, 3),
    Frac(1 + 4 + 2, 3),  # the neighbour on the right is the first position of the next row
    Frac(2 + 5 + 1, 3),
    Frac(5 + 1 + 1, 3),
]
LABEL_WEIGHTS = [Frac(5 + 1, 2), Frac(5 + 1 + 4, 3), Frac(1 + 4, 2), Frac(5 + 1, 2), Frac(5 + 1, 2)]
WEIGHTS = {"released": RELEASED_WEIGHTS, "exact": LABEL_WEIGHTS, "paper": LABEL_WEIGHTS}
EPS = Frac(1, 10**6)


def dot(weights: list[Frac], nll: list[Frac]) -> Frac:
    return sum((w * x for w, x in zip(weights, nll, strict=True)), Frac(0))


def wanted_loss(form: str) -> Frac:
    weights = WEIGHTS[form]
    if form == "paper":
        rows = [dot(weights[rows], NLL_AT_LABELS[rows]) / sum(weights[rows]) for rows in (slice(0, 3), slice(3, 5))]
        return (rows[0] + rows[1]) / 2
    return dot(weights, NLL_AT_LABELS) / (sum(weights) + (EPS if form == "released" else 0))


def wanted_gradient(form: str) -> list[Frac]:
    """∂loss/∂nll at the labels: the weight over its normaliser."""
    weights = WEIGHTS[form]
    if form == "paper":
        return [w / sum(weights[:3]) / 2 for w in weights[:3]] + [w / sum(weights[3:]) / 2 for w in weights[3:]]
    return [w / (sum(weights) + (EPS if form == "released" else 0)) for w in weights]


def floats(fractions: list[Frac]) -> Tensor:
    return torch.tensor([float(x) for x in fractions], dtype=torch.float64)


def test_the_fractions_are_the_numbers_of_the_spec():
    assert sum(RELEASED_WEIGHTS) == 13
    assert float(wanted_loss("released")) == pytest.approx(1.6474357, abs=1e-7)
    assert wanted_loss("exact") == Frac(142, 89)
    assert float(wanted_loss("paper")) == pytest.approx(1.6804245, abs=5e-8)
    row = dot(LABEL_WEIGHTS[:3], NLL_AT_LABELS[:3]) / sum(LABEL_WEIGHTS[:3])
    assert float(row) == pytest.approx(1.2358491, abs=5e-8)
    assert dot(LABEL_WEIGHTS[3:], NLL_AT_LABELS[3:]) / 6 == Frac(17, 8)
    assert sum(NLL_AT_LABELS) / 5 == Frac(31, 20)


@pytest.mark.parametrize("form", ["released", "exact", "paper"])
def test_weights_loss_and_gradient_of_the_golden_vector(form):
    weights = cal_weights(DELTA, VALID, 1.0, 5.0, 3, form)
    torch.testing.assert_close(weights[VALID], floats(WEIGHTS[form]), rtol=1e-14, atol=0)
    assert weights[VALID].std() > 0.2
    nll = NLL.clone().requires_grad_()
    loss = cal_loss(nll, weights, VALID, form)
    loss.backward()
    assert loss.item() == pytest.approx(float(wanted_loss(form)), rel=1e-14)
    torch.testing.assert_close(nll.grad[VALID], floats(wanted_gradient(form)), rtol=1e-14, atol=0)
    assert (nll.grad[~VALID] == 0).all()


@pytest.mark.parametrize("form", ["released", "exact", "paper"])
def test_the_slow_reference_gives_the_golden_vector_too(form):
    weights = reference_weights(DELTA.tolist(), VALID.tolist(), 1.0, 5.0, 3, form)
    at_labels = torch.tensor(weights, dtype=torch.float64)[VALID]
    torch.testing.assert_close(at_labels, floats(WEIGHTS[form]), rtol=1e-14, atol=0)
    nll = NLL.clone().requires_grad_()
    loss = reference_loss(nll, weights, VALID.tolist(), form)
    loss.backward()
    assert loss.item() == pytest.approx(float(wanted_loss(form)), rel=1e-14)
    torch.testing.assert_close(nll.grad[VALID], floats(wanted_gradient(form)), rtol=1e-14, atol=0)


def test_equal_bounds_on_the_golden_vector_give_plain_mle():
    loss = cal_loss(NLL, cal_weights(DELTA, VALID, 2.0, 2.0), VALID)
    assert loss.item() == pytest.approx(1.55, rel=1e-14)


def golden_logits(vocab: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of both passes that have the golden Δ and losses: the label's logit is Δ, the rest make up its loss."""
    picked = LABELS.masked_fill(~VALID, 0)
    loss = NLL.masked_fill(~VALID, 3.0)
    rest = ((loss + DELTA).exp() - DELTA.exp()).div(vocab - 1).log()
    logits = rest.unsqueeze(-1).repeat(1, 1, vocab).scatter(-1, picked.unsqueeze(-1), DELTA.unsqueeze(-1))
    return logits, torch.zeros_like(logits), picked


def test_from_logits_to_loss_the_golden_vector_comes_out():
    logits, contrast, picked = golden_logits()
    torch.testing.assert_close(contrast_delta(logits, contrast, picked), DELTA)
    torch.testing.assert_close(token_nll(logits.flatten(0, 1), picked.flatten()).view_as(NLL)[VALID], NLL[VALID])
    last = torch.zeros(2, 1, 10, dtype=torch.float64)  # the position that predicts nothing
    unshifted = F.pad(LABELS, (1, 0), value=-100)
    loss = reference_released(torch.cat([logits, last], 1), torch.cat([contrast, last], 1), unshifted)
    assert loss.item() == pytest.approx(float(wanted_loss("released")), rel=1e-12)


def released_arithmetic(logits: Tensor, contrast: Tensor, labels: Tensor) -> Tensor:
    """Steps 4 to 6 of spec section 1.2, one line each, with nothing taken from contralign."""
    shift_labels = labels[:, 1:].flatten()
    image, text = (x[:, :-1].flatten(0, 1).float() for x in (logits, contrast))
    with torch.no_grad():
        token = torch.where(shift_labels == -100, 0, shift_labels).unsqueeze(1)
        delta = (image.gather(1, token) - text.gather(1, token)).view(1, -1).clamp(1, 5)
        weights = torch.nn.AvgPool1d(3, stride=1, padding=1, count_include_pad=False)(delta).view(-1)
        total = weights[shift_labels != -100].sum() + 1e-6
    losses = F.cross_entropy(image, shift_labels, reduction="none")
    return (losses * weights).sum() / total


def multi_turn_batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Four rows of 16: two turns, one turn, a row of text (both passes equal), and a row without a label."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 16, 11, generator=rng) * 3
    contrast = torch.randn(4, 16, 11, generator=rng) * 3
    contrast[2] = logits[2]
    labels = torch.full((4, 16), -100)
    for row, turns in enumerate(([(3, 6), (9, 14)], [(8, 16)], [(1, 5)], [])):
        for start, end in turns:
            labels[row, start:end] = torch.randint(0, 11, (end - start,), generator=rng)
    return logits, contrast, labels


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_logit_gradient_equal_the_released_arithmetic(seed):
    logits, contrast, labels = multi_turn_batch(seed)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    valid, picked = labels[:, 1:] != -100, labels[:, 1:].clamp(min=0)
    delta = contrast_delta(ours[:, :-1], contrast[:, :-1], picked)
    weights = cal_weights(delta, valid, form="released")
    assert weights[valid].std() > 0.5 and (weights[2][valid[2]] < 3).all()
    nll = token_nll(ours[:, :-1].flatten(0, 1), picked.flatten()).view_as(delta)
    loss, wanted = cal_loss(nll, weights, valid, "released"), released_arithmetic(theirs, contrast, labels)
    loss.backward()
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    assert (ours.grad - theirs.grad).norm() < 1e-6 * theirs.grad.norm()
    slow = logits.double().requires_grad_()
    reference = reference_released(slow, contrast.double(), labels)
    reference.backward()
    torch.testing.assert_close(loss.double(), reference, rtol=1e-6, atol=0)
    assert (ours.grad - slow.grad).norm() < 1e-6 * slow.grad.norm()
