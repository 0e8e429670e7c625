import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.token_cases import FORMS, IN_SAMPLE, token_cases

from contralign.core.loss import cal_loss, loss_terms, token_nll
from contralign.core.reference import reference_loss, reference_weights
from contralign.core.weights import cal_weights


def example(seed: int = 0, batch: int = 3, seq: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Δ that the clamp to [1, 5] cuts on both sides, losses, and a mask with labels in every row."""
    rng = torch.Generator().manual_seed(seed)
    delta = torch.randn(batch, seq, generator=rng, dtype=torch.float64) * 4 + 2
    nll = torch.rand(batch, seq, generator=rng, dtype=torch.float64) * 5
    valid = torch.rand(batch, seq, generator=rng) > 0.4
    valid[:, 1] = True
    return delta, nll, valid


def loss_and_gradient(delta, nll, valid, **setting) -> tuple[torch.Tensor, torch.Tensor]:
    nll = nll.detach().clone().requires_grad_()
    loss = cal_loss(nll, cal_weights(delta, valid, **setting), valid, setting.get("form", "exact"))
    (gradient,) = torch.autograd.grad(loss, nll)
    return loss.detach(), gradient


@settings(max_examples=150, deadline=None)
@given(token_cases())
def test_loss_and_gradient_equal_the_reference(case):
    delta, nll, valid, setting = case
    loss, gradient = loss_and_gradient(delta, nll, valid, **setting)
    weights = reference_weights(delta.tolist(), valid.tolist(), **setting)
    slow = nll.clone().requires_grad_()
    wanted = reference_loss(slow, weights, valid.tolist(), setting["form"])
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, slow)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_the_numerical_one(form):
    delta, nll, valid = example(1)
    weights = cal_weights(delta, valid, form=form)
    assert weights[valid].std() > 0.3
    assert torch.autograd.gradcheck(lambda x: cal_loss(x, weights, valid, form), (nll.requires_grad_(),))


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_down_to_the_logits_is_the_numerical_one(form):
    delta, _, valid = example(2, batch=2, seq=4)
    logits = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(8) % 6
    weights = cal_weights(delta, valid, form=form)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return cal_loss(token_nll(logits.flatten(0, 1), labels).view(2, 4), weights, valid, form)

    assert torch.autograd.gradcheck(loss, (logits,))


@settings(max_examples=100, deadline=None)
@given(token_cases(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_rubbish_at_ignored_tokens_changes_neither_loss_nor_gradient(case, rubbish):
    delta, nll, valid, setting = case
    clean = loss_and_gradient(delta, nll, valid, **setting)
    dirty_nll = torch.where(valid, nll, torch.full_like(nll, rubbish))
    if setting["form"] != "released":
        delta = torch.where(valid, delta, torch.full_like(delta, rubbish))
    dirty = loss_and_gradient(delta, dirty_nll, valid, **setting)
    assert torch.equal(dirty[0], clean[0]) and torch.equal(dirty[1], clean[1])
    weights = cal_weights(delta, valid, **setting)
    dirty_weights = torch.where(valid, weights, torch.full_like(weights, rubbish))
    assert torch.equal(cal_loss(nll, dirty_weights, valid, setting["form"]), clean[0])


@pytest.mark.parametrize("constant", [0.25, 1.0, 3.0])
def test_equal_bounds_give_the_plain_mean_in_the_exact_form(constant):
    delta, nll, valid = example(3)
    loss, gradient = loss_and_gradient(delta, nll, valid, alpha=constant, beta=constant)
    torch.testing.assert_close(loss, nll[valid].mean(), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, valid.double() / valid.sum(), rtol=1e-14, atol=0)


def test_equal_bounds_give_the_mean_of_row_means_in_the_paper_form():
    delta, nll, valid = example(4)
    loss, _ = loss_and_gradient(delta, nll, valid, alpha=2.0, beta=2.0, form="paper")
    rows = torch.stack([row[mask].mean() for row, mask in zip(nll, valid, strict=True)])
    torch.testing.assert_close(loss, rows.mean(), rtol=1e-14, atol=0)


def test_equal_bounds_give_the_plain_mean_less_the_epsilon_in_the_released_form():
    delta, nll, valid = example(5)
    loss, _ = loss_and_gradient(delta, nll, valid, alpha=1.0, beta=1.0, form="released")
    count = valid.sum().double()
    torch.testing.assert_close(loss, nll[valid].mean() * count / (count + 1e-6), rtol=1e-14, atol=0)
    assert loss < nll[valid].mean()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3), (1, 0), (0, 3)])
def test_a_batch_without_labels_gives_zero_with_a_live_graph(form, shape):
    logits = torch.randn(*shape, 4, requires_grad=True)
    nll, nothing = logits.logsumexp(-1), torch.zeros(shape, dtype=torch.bool)
    loss = cal_loss(nll, cal_weights(torch.zeros(shape), nothing, form=form), nothing, form)
    loss.backward()
    assert loss.item() == 0 and loss.dim() == 0
    assert logits.grad is not None and (logits.grad == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_are_all_zero_give_zero_with_a_live_graph(form):
    logits, valid = torch.randn(2, 3, 4, requires_grad=True), torch.ones(2, 3, dtype=torch.bool)
    weights = cal_weights(torch.full((2, 3), -2.0), valid, alpha=0.0, form=form)
    assert (weights == 0).all()
    loss = cal_loss(logits.logsumexp(-1), weights, valid, form)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_a_row_without_labels_does_not_count_as_a_sample_in_the_paper_form():
    delta, nll, valid = example(6)
    valid[1] = False
    whole, _ = loss_and_gradient(delta, nll, valid, form="paper")
    rest, _ = loss_and_gradient(delta[[0, 2]], nll[[0, 2]], valid[[0, 2]], form="paper")
    torch.testing.assert_close(whole, rest, rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", IN_SAMPLE)
def test_terms_of_micro_batches_add_up_to_the_whole_batch(form):
    delta, nll, valid = example(7, batch=6)
    whole = cal_loss(nll, cal_weights(delta, valid, form=form), valid, form)
    for size in (1, 2, 3):
        parts = [
            loss_terms(n, cal_weights(d, v, form=form), v, form)
            for d, n, v in zip(delta.split(size), nll.split(size), valid.split(size), strict=True)
        ]
        numerator, denominator = (torch.stack(terms).sum() for terms in zip(*parts, strict=True))
        torch.testing.assert_close(numerator / denominator, whole, rtol=1e-13, atol=0)


def test_only_the_numerator_has_a_graph():
    delta, nll, valid = example(8)
    nll.requires_grad_()
    for form in FORMS:
        numerator, denominator = loss_terms(nll, cal_weights(delta, valid, form=form), valid, form)
        assert numerator.requires_grad and not denominator.requires_grad
        torch.testing.assert_close(
            numerator / denominator, cal_loss(nll, cal_weights(delta, valid, form=form), valid, form)
        )


@settings(max_examples=60, deadline=None)
@given(token_cases(IN_SAMPLE), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_changes_nothing_in_the_forms_that_stay_in_a_sample(case, random):
    delta, nll, valid, setting = case
    order = random.sample(range(len(delta)), len(delta))
    one, _ = loss_and_gradient(delta, nll, valid, **setting)
    two, _ = loss_and_gradient(delta[order], nll[order], valid[order], **setting)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_the_order_of_the_batch_changes_the_released_loss():
    delta, nll, valid = example(9)
    one, _ = loss_and_gradient(delta, nll, valid, form="released")
    two, _ = loss_and_gradient(delta[[1, 2, 0]], nll[[1, 2, 0]], valid[[1, 2, 0]], form="released")
    assert (one - two).abs() > 1e-3


def padded(array: torch.Tensor, value: float, left: int, right: int) -> torch.Tensor:
    return F.pad(array.double(), (left, right), value=value)


@settings(max_examples=60, deadline=None)
@given(token_cases(IN_SAMPLE), st.integers(1, 4))
def test_the_padding_side_changes_nothing(case, width):
    delta, nll, valid, setting = case
    wanted, _ = loss_and_gradient(delta, nll, valid, **setting)
    for left, right in ((width, 0), (0, width)):
        arrays = padded(delta, 7.0, left, right), padded(nll, 3.0, left, right), padded(valid, 0, left, right).bool()
        torch.testing.assert_close(loss_and_gradient(*arrays, **setting)[0], wanted, rtol=1e-12, atol=1e-12)


def test_padding_changes_the_released_loss():
    delta, nll, valid = example(10)
    valid[:, -1] = True
    bare, _ = loss_and_gradient(delta, nll, valid, form="released")
    wide, _ = loss_and_gradient(
        padded(delta, 7, 0, 2), padded(nll, 0, 0, 2), padded(valid, 0, 0, 2).bool(), form="released"
    )
    assert (bare - wide).abs() > 1e-3


def test_a_swapped_caption_is_lighter_than_a_right_one_only_in_the_exact_form():
    """What the paper's own normaliser cannot do (design, section 3)."""
    delta = torch.tensor([[4.0, 5.0, 3.0], [-2.0, 0.0, 1.0]], dtype=torch.float64)
    nll, valid = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.bool)
    _, exact = loss_and_gradient(delta, nll, valid, form="exact")
    _, paper = loss_and_gradient(delta, nll, valid, form="paper")
    assert exact[0].sum() > 3 * exact[1].sum()
    torch.testing.assert_close(paper.sum(dim=1), torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_token_nll_is_cross_entropy_in_float32_or_better():
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])
    wanted = -logits.log_softmax(-1)[torch.arange(5), labels]
    torch.testing.assert_close(token_nll(logits, labels), wanted)
    half = token_nll(logits.bfloat16(), labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), token_nll(logits.bfloat16().double(), labels), rtol=0, atol=1e-5)


def test_bad_arguments_are_refused_with_what_was_wanted():
    nll, valid = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="form='mean': wanted one of exact, paper, released"):
        cal_loss(nll, nll, valid, "mean")
    for bad in ((nll[0], nll[0], valid[0]), (nll, nll[:, 1:], valid), (nll, nll, valid[:1]), (nll, nll, valid.long())):
        with pytest.raises(ValueError, match=r"wanted one shape \(batch, seq\)"):
            cal_loss(*bad)
