import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.token_cases import FORMS, IN_SAMPLE, token_cases

from contralign.core.reference import reference_weights
from contralign.core.settings import check_clamp, check_form
from contralign.core.weights import cal_weights, pool_flat, pool_valid


@settings(max_examples=150, deadline=None)
@given(token_cases())
def test_it_equals_the_reference(case):
    delta, _, valid, setting = case
    wanted = reference_weights(delta.tolist(), valid.tolist(), **setting)
    torch.testing.assert_close(
        cal_weights(delta, valid, **setting), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(token_cases())
def test_weights_lie_between_alpha_and_beta_at_labels_and_are_zero_elsewhere(case):
    delta, _, valid, setting = case
    weights = cal_weights(delta, valid, **setting)
    assert (weights[~valid] == 0).all()
    assert (weights[valid] >= setting["alpha"] - 1e-9).all() and (weights[valid] <= setting["beta"] + 1e-9).all()


@settings(max_examples=100, deadline=None)
@given(token_cases(IN_SAMPLE), st.sampled_from([math.nan, math.inf, -math.inf, 1e30]))
def test_ignored_tokens_never_reach_a_neighbour(case, rubbish):
    delta, _, valid, setting = case
    dirty = torch.where(valid, delta, torch.full_like(delta, rubbish))
    assert torch.equal(cal_weights(dirty, valid, **setting), cal_weights(delta, valid, **setting))


def test_ignored_tokens_do_reach_a_neighbour_in_the_released_form():
    delta, valid = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[False, True, True]])
    loud = torch.tensor([[4.0, 1.0, 1.0]])
    assert cal_weights(delta, valid, form="released").tolist() == [[0, 1, 1]]
    assert cal_weights(loud, valid, form="released").tolist() == [[0, 2, 1]]


@settings(max_examples=100, deadline=None)
@given(token_cases(IN_SAMPLE), st.floats(-9, 9))
def test_rows_never_mix(case, other):
    delta, _, valid, setting = case
    whole = cal_weights(delta, valid, **setting)
    rows = [cal_weights(delta[i : i + 1], valid[i : i + 1], **setting) for i in range(len(delta))]
    torch.testing.assert_close(whole, torch.cat(rows), rtol=1e-14, atol=0)
    changed = delta.clone()
    changed[1:] = other
    assert torch.equal(cal_weights(changed, valid, **setting)[0], whole[0])


def test_rows_do_mix_at_their_borders_in_the_released_form():
    delta, valid = torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.ones(2, 2, dtype=torch.bool)
    loud = torch.tensor([[1.0, 1.0], [4.0, 1.0]])
    assert cal_weights(delta, valid, form="released")[0].tolist() == [1, 1]
    assert cal_weights(loud, valid, form="released")[0].tolist() == [1, 2]


@settings(max_examples=100, deadline=None)
@given(token_cases(IN_SAMPLE), st.integers(1, 4))
def test_the_padding_side_changes_nothing(case, width):
    delta, _, valid, setting = case
    padding, ignored = torch.full((len(delta), width), 7.0, dtype=delta.dtype), torch.zeros(len(delta), width).bool()
    right = cal_weights(torch.cat([delta, padding], 1), torch.cat([valid, ignored], 1), **setting)
    left = cal_weights(torch.cat([padding, delta], 1), torch.cat([ignored, valid], 1), **setting)
    wanted = cal_weights(delta, valid, **setting)
    torch.testing.assert_close(right[:, :-width], wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(left[:, width:], wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [1, 3, 7])
def test_alpha_equal_to_beta_gives_that_weight_to_every_label(form, window):
    delta, valid = torch.randn(3, 6, dtype=torch.float64) * 5, torch.rand(3, 6) > 0.4
    weights = cal_weights(delta, valid, 1.7, 1.7, window, form)
    torch.testing.assert_close(weights, valid.double() * 1.7, rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_window_one_is_the_clamp_alone(form):
    delta = torch.tensor([[-3.0, 0.5, 2.0, 9.0]])
    valid = torch.tensor([[True, True, False, True]])
    assert cal_weights(delta, valid, window=1, form=form).tolist() == [[1, 1, 0, 5]]
    assert cal_weights(delta, valid, 0, math.inf, 1, form).tolist() == [[0, 0.5, 0, 9]]


def test_a_mean_over_labels_inside_the_window_by_hand():
    delta = torch.tensor([[2.0, 9.0, 3.0, 4.0, 1.0]])
    valid = torch.tensor([[True, False, True, True, True]])
    assert pool_valid(delta, valid, 3)[0].tolist() == pytest.approx([2, 0, 3.5, 8 / 3, 2.5])
    assert pool_valid(delta, valid, 5)[0].tolist() == pytest.approx([2.5, 0, 10 / 4, 8 / 3, 8 / 3])
    assert pool_valid(delta, valid, 99)[0].tolist() == pytest.approx([2.5, 0, 2.5, 2.5, 2.5])


def test_only_the_two_ends_of_the_flat_vector_know_fewer_neighbours():
    flat = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert pool_flat(flat, 3).tolist() == [[1.5, 2, 3], [4, 5, 5.5]]


def test_the_clamp_comes_before_the_pooling():
    delta = torch.tensor([[-100.0, 3.0, 100.0]])
    assert cal_weights(delta, torch.ones(1, 3, dtype=torch.bool))[0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (0, 0)])
def test_an_empty_batch_has_empty_weights(form, shape):
    assert cal_weights(torch.zeros(shape), torch.zeros(shape).bool(), form=form).shape == shape


@pytest.mark.parametrize("form", FORMS)
def test_weights_carry_no_gradient_and_change_no_input(form):
    delta, valid = torch.randn(2, 5, requires_grad=True), torch.rand(2, 5) > 0.3
    before = delta.detach().clone()
    assert not cal_weights(delta, valid, form=form).requires_grad
    assert torch.equal(delta.detach(), before)


def test_half_precision_is_weighed_in_float32_and_float64_stays():
    delta, valid = torch.tensor([[3.0, 1.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    weights = cal_weights(delta.bfloat16(), valid)
    assert weights.dtype == torch.float32 and weights[0, 1].item() == pytest.approx(5 / 3, abs=1e-6)
    assert cal_weights(delta.double(), valid).dtype == torch.float64


@pytest.mark.parametrize("form", IN_SAMPLE)
def test_rows_without_a_picture_weigh_one_even_where_alpha_is_zero(form):
    delta, valid = torch.tensor([[0.0, 3.0], [0.0, math.nan]]), torch.ones(2, 2, dtype=torch.bool)
    has_image = torch.tensor([True, False])
    assert cal_weights(delta, valid, 0, 5, 1, form, has_image).tolist() == [[0, 3], [1, 1]]
    assert cal_weights(delta, valid, 2, 5, 1, form, has_image)[1].tolist() == [2, 2]
    assert cal_weights(delta, valid, 0, 0.5, 1, form, has_image)[1].tolist() == [0.5, 0.5]


def test_the_released_form_knows_no_rule_for_rows_without_a_picture():
    delta, valid = torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool)
    assert (cal_weights(delta, valid, 0, 5, 1, "released", torch.tensor([True, False])) == 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"alpha": -0.1}, "alpha=-0.1: wanted a finite number, 0 or more"),
        ({"alpha": math.inf, "beta": math.inf}, "alpha=inf"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"beta": 0.5}, r"beta=0\.5: wanted alpha \(1\.0\) or more"),
        ({"beta": math.nan}, "beta=nan"),
        ({"alpha": 0, "beta": 0}, "beta=0: every weight would be 0"),
        ({"window": 0}, "window=0: wanted a positive odd integer"),
        ({"window": 2}, "window=2"),
        ({"window": -3}, "window=-3"),
        ({"window": 3.0}, r"window=3\.0"),
        ({"window": True}, "window=True"),
    ],
)
def test_a_bad_clamp_or_window_is_refused(setting, message):
    delta, valid = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        cal_weights(delta, valid, **setting)
    with pytest.raises(ValueError, match=message):
        check_clamp(**({"alpha": 1.0, "beta": 5.0, "window": 3} | setting))


def test_a_bad_form_is_refused():
    with pytest.raises(ValueError, match="form='official': wanted one of exact, paper, released"):
        check_form("official")
    with pytest.raises(ValueError, match="form='official'"):
        cal_weights(torch.zeros(1, 2), torch.ones(1, 2).bool(), form="official")


@pytest.mark.parametrize(
    ("delta", "valid"),
    [
        (torch.zeros(1, 2), torch.ones(1, 3).bool()),
        (torch.zeros(2), torch.ones(2).bool()),
        (torch.zeros(1, 2), torch.ones(1, 2).long()),
        (torch.zeros(1, 2), torch.ones(1, 2)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(delta, valid):
    with pytest.raises(ValueError, match=r"wanted one shape \(batch, seq\)"):
        cal_weights(delta, valid)
