"""VIG: the tokens with the largest gain in log-probability, and no others."""

import pytest
from worlds.small_readings import assert_equal_and_varied, kept, listed, loop, token_readings

from contralign.weighting.vig import Vig


@pytest.mark.parametrize("keep", [0.3, 0.7])
@pytest.mark.parametrize("over", ["batch", "sample"])
def test_it_keeps_the_top_share_by_gain(keep, over):
    tokens = token_readings()
    chosen = kept(tokens, listed(tokens, "delta_logprob"), keep, over)
    wanted = loop(tokens, lambda row, t: float((row, t) in chosen))
    assert_equal_and_varied(Vig(keep=keep, over=over)(tokens), wanted, tokens)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="keep=0: wanted a number above 0, up to 1"):
        Vig(keep=0)
    with pytest.raises(ValueError, match="over='row'"):
        Vig(over="row")
