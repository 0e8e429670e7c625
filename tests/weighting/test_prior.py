"""PRIOR: (1 − q)^power."""

import math

import pytest
from worlds.small_readings import assert_equal_and_varied, listed, loop, token_readings

from contralign.weighting.prior import Prior


@pytest.mark.parametrize("power", [0.5, 1.0, 3])
def test_it_equals_the_formula_token_by_token(power):
    tokens = token_readings()
    nats = listed(tokens, "nll_without")
    wanted = loop(tokens, lambda row, t: (1 - math.exp(-nats[row][t])) ** power)
    assert_equal_and_varied(Prior(power=power)(tokens), wanted, tokens)


def test_a_token_that_the_text_makes_certain_weighs_0_even_where_rounding_makes_its_loss_negative():
    tokens = token_readings()
    tokens.readings["nll_without"][0] = -1e-9
    assert not Prior(power=0.5)(tokens)[0].any()


@pytest.mark.parametrize("power", [0, -1, "2", True])
def test_a_power_that_is_not_above_0_is_refused(power):
    with pytest.raises(ValueError, match="wanted a number above 0"):
        Prior(power=power)
