"""Rho-1: the tokens with the largest loss beyond a reference model's."""

import pytest
from worlds.small_readings import assert_equal_and_varied, kept, listed, loop, token_readings

from contralign.weighting.rho1 import Rho1


@pytest.mark.parametrize("keep", [0.3, 0.6])
@pytest.mark.parametrize("over", ["batch", "sample"])
def test_it_keeps_the_top_share_by_excess_loss(keep, over):
    tokens = token_readings()
    own, reference = listed(tokens, "nll"), listed(tokens, "reference_nll")
    excess = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(own, reference, strict=True)]
    chosen = kept(tokens, excess, keep, over)
    wanted = loop(tokens, lambda row, t: float((row, t) in chosen))
    assert_equal_and_varied(Rho1(keep=keep, over=over)(tokens), wanted, tokens)


def test_a_hard_token_that_is_as_hard_for_the_reference_is_left_out():
    tokens = token_readings()
    tokens.readings["nll"][0] += 50
    tokens.readings["reference_nll"][0] += 100
    weights = Rho1(keep=0.3)(tokens)
    assert not weights[0].any() and weights[2].any()


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="keep=-1: wanted a number above 0, up to 1"):
        Rho1(keep=-1)
    with pytest.raises(ValueError, match="over='row'"):
        Rho1(over="row")
