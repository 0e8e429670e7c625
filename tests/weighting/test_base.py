"""What holds for every weighting, whatever it reads."""

import math

import pytest
import torch
from worlds.small_readings import token_readings

from contralign.core.label_readings import COMPARED
from contralign.weighting.base import check_number, column_of, delta_of, live_readings, main_reading, stored_reading
from contralign.weighting.cal import Cal
from contralign.weighting.registry import WEIGHTINGS

ALL = pytest.mark.parametrize("name", WEIGHTINGS)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_not_negative_and_stay_where_labels_are(name, dtype):
    tokens = token_readings(dtype=dtype)
    weights = WEIGHTINGS[name]()(tokens)
    assert weights.shape == tokens.valid.shape and weights.isfinite().all() and (weights >= 0).all()
    assert not weights[~tokens.valid].any(), "NaN stands there in every reading"
    assert weights.dtype == (dtype if WEIGHTINGS[name]().readings else torch.float32)
    if name != "uniform":
        assert weights[tokens.pictured].std() > 0.05


@ALL
def test_labels_without_a_picture_weigh_1(name):
    tokens = token_readings(seed=3)
    weights = WEIGHTINGS[name]()(tokens)
    assert tokens.valid[1].any()
    assert torch.equal(weights[1], tokens.valid[1].to(weights.dtype))


@ALL
def test_labels_without_a_picture_are_not_chosen_among(name):
    """Whatever is read of them, the weights of other rows stay."""
    tokens, other = token_readings(seed=3), token_readings(seed=3)
    for values in other.readings.values():
        values[1] += 100
    assert torch.equal(WEIGHTINGS[name]()(tokens), WEIGHTINGS[name]()(other))


@ALL
def test_equal_readings_give_equal_weights_above_0(name):
    tokens = token_readings(equal=True)
    weights = WEIGHTINGS[name]()(tokens)[tokens.pictured]
    torch.testing.assert_close(weights, weights[:1].expand_as(weights))
    assert weights[0] > 0


@ALL
def test_the_order_of_rows_does_not_matter(name):
    tokens, order = token_readings(seed=5), torch.tensor([2, 0, 3, 1])
    turned = type(tokens)(
        readings={each: values[order] for each, values in tokens.readings.items()},
        valid=tokens.valid[order],
        has_image=tokens.has_image[order],
    )
    torch.testing.assert_close(WEIGHTINGS[name]()(turned), WEIGHTINGS[name]()(tokens)[order])


@ALL
@pytest.mark.parametrize("shape", [{"rows": 2, "width": 0}, {"rows": 1, "width": 5, "text_row": None}])
def test_no_label_gives_no_weight(name, shape):
    tokens = token_readings(**shape)
    assert not tokens.valid.any()
    weights = WEIGHTINGS[name]()(tokens)
    assert weights.shape == tokens.valid.shape and not weights.any()


@ALL
def test_a_batch_of_text_alone_weighs_1_throughout(name):
    tokens = token_readings(rows=2, text_row=0)
    weights = WEIGHTINGS[name]()(tokens)
    assert tokens.valid.any() and torch.equal(weights, tokens.valid.to(weights.dtype))


@ALL
def test_weights_carry_no_gradient(name):
    tokens = token_readings()
    for values in tokens.readings.values():
        values.requires_grad_()
    assert not WEIGHTINGS[name]()(tokens).requires_grad


@ALL
def test_it_says_what_it_reads(name):
    """It reads no more than it asks for: with the others gone the weights are the same."""
    weighting, tokens = WEIGHTINGS[name](), token_readings()
    only = {reading: tokens[reading] for reading in weighting.readings}
    bare = type(tokens)(readings=only, valid=tokens.valid, has_image=tokens.has_image)
    assert torch.equal(weighting(bare), weighting(tokens))
    main, stored = main_reading(weighting), stored_reading(weighting)
    assert main is None or main in COMPARED
    assert stored is None or stored in weighting.readings


def test_a_score_file_takes_the_place_of_what_it_holds():
    assert live_readings(Cal(), scored=False) == ("delta_logit",)
    assert live_readings(Cal(), scored=True) == ()
    assert live_readings(WEIGHTINGS["rho1"](), scored=True) == ("nll",)
    assert live_readings(WEIGHTINGS["vppo"](), scored=False) == ("kl",)
    assert column_of("reference_nll") == "nll" and column_of("nll_without") == "nll_without"


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, -1, 0, 1.5])
def test_a_setting_that_is_no_number_in_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"keep=.*: wanted a number above 0, up to 1"):
        check_number("keep", value, 0, above=True, high=1)


def test_an_unknown_score_has_no_delta():
    with pytest.raises(ValueError, match="score='prob': wanted one of logit, centred, logprob"):
        delta_of("prob")
