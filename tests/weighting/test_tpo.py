"""TPO's reward, equation 5: margin + σ(Δ)."""

import math

import pytest
import torch
from worlds.small_readings import assert_equal_and_varied, listed, loop, token_readings

from contralign.weighting.tpo import Tpo


@pytest.mark.parametrize("score", ["logit", "centred", "logprob"])
@pytest.mark.parametrize("margin", [0, 0.5])
def test_it_equals_the_formula_token_by_token(score, margin):
    tokens = token_readings()
    delta = listed(tokens, f"delta_{score}")
    wanted = loop(tokens, lambda row, t: margin + 1 / (1 + math.exp(-delta[row][t])))
    assert_equal_and_varied(Tpo(score=score, margin=margin)(tokens), wanted, tokens)


def test_a_token_that_the_picture_does_not_move_weighs_1():
    tokens = token_readings()
    tokens.readings["delta_logit"].zero_()
    assert torch.equal(Tpo()(tokens), tokens.valid.double())


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match=r"margin=-0\.1: wanted a number 0 or more"):
        Tpo(margin=-0.1)
