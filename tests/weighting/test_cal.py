"""CAL as a weighting is CAL."""

import pytest
import torch
from worlds.small_readings import assert_equal_and_varied, listed, token_readings

from contralign.core.reference import reference_weights
from contralign.core.weights import cal_weights
from contralign.weighting.cal import Cal


@pytest.mark.parametrize("score", ["logit", "centred", "logprob"])
@pytest.mark.parametrize("settings", [{}, {"alpha": 0, "beta": float("inf"), "window": 1}, {"alpha": 0, "window": 5}])
def test_it_equals_the_loops_of_equations_3_and_4(score, settings):
    tokens, cal = token_readings(), Cal(score=score, **settings)
    delta = listed(tokens, f"delta_{score}")
    delta[1] = [1.0] * len(delta[1])
    wanted = reference_weights(delta, tokens.valid.tolist(), cal.alpha, cal.beta, cal.window, "exact")
    assert_equal_and_varied(cal(tokens), torch.tensor(wanted, dtype=torch.float64), tokens)


@pytest.mark.parametrize("form", ["exact", "paper", "released"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_cal_weights_to_the_last_bit(form, dtype):
    tokens = token_readings(dtype=dtype)
    delta = tokens["delta_logit"].nan_to_num(0.25)  # the released form reads ignored positions too
    tokens = type(tokens)(readings={"delta_logit": delta}, valid=tokens.valid, has_image=tokens.has_image)
    wanted = cal_weights(delta, tokens.valid, 0.5, 3.0, 3, form, has_image=tokens.has_image)
    assert torch.equal(Cal(alpha=0.5, beta=3.0, form=form)(tokens), wanted)


def test_labels_without_a_picture_weigh_1_inside_the_bounds():
    tokens = token_readings()
    assert set(Cal(alpha=2, beta=4)(tokens)[1][tokens.valid[1]].tolist()) == {2.0}


def test_bounds_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"beta=0\.5: wanted alpha"):
        Cal(beta=0.5)
    with pytest.raises(ValueError, match="form='batch'"):
        Cal(form="batch")
