"""DFT: the model's own probability."""

import math

from worlds.small_readings import assert_equal_and_varied, listed, loop, token_readings

from contralign.weighting.base import main_reading, stored_reading
from contralign.weighting.dft import Dft


def test_it_is_the_probability_of_the_label():
    tokens = token_readings()
    nats = listed(tokens, "nll")
    wanted = loop(tokens, lambda row, t: math.exp(-nats[row][t]))
    assert_equal_and_varied(Dft()(tokens), wanted, tokens)


def test_it_takes_no_second_look():
    assert main_reading(Dft()) is None and stored_reading(Dft()) is None
