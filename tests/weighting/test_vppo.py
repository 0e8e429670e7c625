"""VPPO's filter: the most perceptive tokens of each sample."""

import pytest
from worlds.small_readings import assert_equal_and_varied, kept, listed, loop, token_readings

from contralign.weighting.vppo import Vppo


@pytest.mark.parametrize("keep", [0.2, 0.4])
@pytest.mark.parametrize("over", ["batch", "sample"])
def test_it_keeps_the_top_share_by_kl(keep, over):
    tokens = token_readings()
    chosen = kept(tokens, listed(tokens, "kl"), keep, over)
    wanted = loop(tokens, lambda row, t: float((row, t) in chosen))
    assert_equal_and_varied(Vppo(keep=keep, over=over)(tokens), wanted, tokens)


def test_what_it_keeps_of_a_sample_does_not_hang_on_the_others():
    tokens = token_readings()
    alone = type(tokens)(
        readings={name: values[:1] for name, values in tokens.readings.items()},
        valid=tokens.valid[:1],
        has_image=tokens.has_image[:1],
    )
    assert Vppo()(alone).tolist() == Vppo()(tokens)[:1].tolist()


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"keep=1\.2: wanted a number above 0, up to 1"):
        Vppo(keep=1.2)
    with pytest.raises(ValueError, match="over='row'"):
        Vppo(over="row")
