"""The fused loss of label tokens against the plain one: value, gradient, memory of it."""

import pytest
import torch
import torch.nn.functional as F

from contralign.core.head import LinearHead, OpaqueHead
from contralign.core.label_loss import label_loss

VOCAB, HIDDEN = 50, 16
ONE_CHUNK = 10**9


def example(tokens=23, dtype=torch.float64, bias=False, seed=0):
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(tokens, HIDDEN, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    weight = (2 * torch.randn(VOCAB, HIDDEN, generator=rng, dtype=torch.float64)).to(dtype).requires_grad_()
    shift = torch.randn(VOCAB, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    labels = torch.randint(VOCAB, (tokens,), generator=rng)
    coefficients = torch.rand(tokens, generator=rng, dtype=torch.float64) * 4 + 1
    return rows, weight, shift, labels, coefficients


def plain(rows, weight, bias, labels, coefficients, scale=1.0, cap=None):
    """The equation, with all logits at once."""
    logits = scale * F.linear(rows, weight, bias)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    nll = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (coefficients.to(nll.dtype) * nll).sum(), nll.detach(), logits.argmax(-1) == labels


def gradients(total, *tensors, factor=0.37):
    return torch.autograd.grad(factor * total, [tensor for tensor in tensors if tensor is not None])


@pytest.mark.parametrize("chunk", [ONE_CHUNK, 8 * VOCAB * 5, 1])
@pytest.mark.parametrize(
    ("bias", "scale", "cap"),
    [(False, 1.0, None), (True, 1.0, None), (True, 0.3, None), (True, 1.0, 5.0), (False, 0.7, 9.0)],
)
def test_value_and_gradient_equal_the_plain_loss(chunk, bias, scale, cap):
    rows, weight, shift, labels, coefficients = example(bias=bias)
    assert coefficients.std() > 0.5
    found = label_loss(rows, labels, coefficients, LinearHead(weight=weight, bias=shift, scale=scale, cap=cap), chunk)
    total, nll, correct = plain(rows, weight, shift, labels, coefficients, scale, cap)
    torch.testing.assert_close(found.total, total, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.nll, nll, rtol=1e-10, atol=1e-12)
    assert torch.equal(found.correct, correct)
    for mine, theirs in zip(
        gradients(found.total, rows, weight, shift), gradients(total, rows, weight, shift), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [ONE_CHUNK, 4 * VOCAB * 5])
def test_float32_is_within_1e_5_of_float64(chunk):
    exact = plain(*example())
    exact_gradients = gradients(plain(*(inputs := example()))[0], *inputs[:2])
    rows, weight, _, labels, coefficients = example(dtype=torch.float32)
    found = label_loss(rows, labels, coefficients, LinearHead(weight=weight), chunk)
    assert found.total.dtype == torch.float32
    assert abs(found.total.item() / exact[0].item() - 1) < 1e-5
    for mine, theirs in zip(gradients(found.total, rows, weight), exact_gradients, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.parametrize("chunk", [ONE_CHUNK, 4 * VOCAB * 40])
@pytest.mark.parametrize(("factor", "room"), [(1.0, 1.02), (0.37, 1.15)])
def test_bfloat16_is_no_worse_than_torchs_own(chunk, factor, room):
    """Both against float64 on the same rounded inputs; a factor on the loss rounds our gradient once more."""
    rows, weight, _, labels, coefficients = example(tokens=200, dtype=torch.bfloat16)
    wide = [tensor.detach().double().requires_grad_() for tensor in (rows, weight)]
    exact_total = plain(*wide, None, labels, coefficients)[0]
    exact = gradients(exact_total, *wide, factor=factor)
    found = label_loss(rows, labels, coefficients, LinearHead(weight=weight), chunk)
    ours = gradients(found.total, rows, weight, factor=factor)
    torchs_total = plain(rows, weight, None, labels, coefficients)[0]
    torchs = gradients(torchs_total, rows, weight, factor=factor)
    assert abs(found.total - exact_total) <= abs(torchs_total - exact_total) + 1e-3 * exact_total
    for mine, theirs, true in zip(ours, torchs, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine - true).norm() <= room * (theirs - true).norm()


@pytest.mark.parametrize("chunk", [ONE_CHUNK, 8 * VOCAB * 5])
def test_any_other_head_takes_the_plain_path_with_the_same_gradient(chunk):
    rows, weight, _, labels, coefficients = example()
    head = OpaqueHead(lambda some: torch.sinh(0.1 * some @ weight.T), VOCAB)
    found = label_loss(rows, labels, coefficients, head, chunk)
    nll = -torch.sinh(0.1 * rows @ weight.T).log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    total = (coefficients * nll).sum()
    torch.testing.assert_close(found.total, total)
    for mine, theirs in zip(gradients(found.total, rows, weight), gradients(total, rows, weight), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("frozen", ["rows", "weight"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own(frozen):
    rows, weight, _, labels, coefficients = example()
    {"rows": rows, "weight": weight}[frozen].requires_grad_(False)
    learning = weight if frozen == "rows" else rows
    (mine,) = gradients(label_loss(rows, labels, coefficients, LinearHead(weight=weight)).total, learning)
    (theirs,) = gradients(plain(rows, weight, None, labels, coefficients)[0], learning)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_tied_head_adds_its_gradient_to_that_of_the_embedding():
    _, weight, _, labels, coefficients = example()
    tokens = torch.arange(23)
    (mine,) = gradients(
        label_loss(torch.tanh(F.embedding(tokens, weight)), labels, coefficients, LinearHead(weight=weight)).total,
        weight,
    )
    (theirs,) = gradients(plain(torch.tanh(F.embedding(tokens, weight)), weight, None, labels, coefficients)[0], weight)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_no_label_is_a_loss_of_0_with_a_graph():
    rows, weight, _, labels, coefficients = example(tokens=0)
    for head in (LinearHead(weight=weight), OpaqueHead(lambda some: some @ weight.T, VOCAB)):
        found = label_loss(rows, labels, coefficients, head)
        assert found.total == 0
        for gradient in gradients(found.total, rows, weight):
            assert not gradient.any()


def test_without_gradients_none_is_made():
    rows, weight, _, labels, coefficients = example()
    with torch.no_grad():
        found = label_loss(rows, labels, coefficients, LinearHead(weight=weight))
    assert not found.total.requires_grad
    torch.testing.assert_close(found.total, plain(rows, weight, None, labels, coefficients)[0].detach())


def test_a_second_backward_is_refused():
    rows, weight, _, labels, coefficients = example()
    total = label_loss(rows, labels, coefficients, LinearHead(weight=weight)).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken twice"):
        total.backward()


def test_the_heads_gradient_is_handed_over_and_not_copied():
    rows, weight, _, labels, coefficients = example()
    total = label_loss(rows, labels, coefficients, LinearHead(weight=weight)).total
    kept = total.grad_fn.gradients.weight.data_ptr()
    total.backward()
    assert weight.grad.data_ptr() == kept


def test_autocast_gives_what_a_linear_layer_under_autocast_gives():
    rows, weight, _, labels, coefficients = example(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = label_loss(rows, labels, coefficients, LinearHead(weight=weight))
        total = plain(rows, weight, None, labels, coefficients)[0]
    torch.testing.assert_close(found.total, total, rtol=1e-3, atol=0)
    for mine, theirs in zip(gradients(found.total, rows, weight), gradients(total, rows, weight), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() / theirs.norm() < 0.01
