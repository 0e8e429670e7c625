"""PGPO's gate: below the threshold less, above it more, and the mass of a sample kept."""

import math

import pytest
import torch
from worlds.small_readings import assert_equal_and_varied, listed, loop, token_readings

from contralign.weighting.pgpo import Pgpo


@pytest.mark.parametrize(("threshold", "boost"), [(0.4, 2.0), (0.9, 0.0), (0.1, 5)])
def test_it_equals_the_formula_token_by_token(threshold, boost):
    tokens = token_readings()
    kl, valid = listed(tokens, "kl"), tokens.valid.tolist()
    gates, scales = {}, {}
    for row in range(len(kl)):
        places = [t for t in range(len(kl[row])) if valid[row][t]]
        squeezed = {t: math.log(1 + kl[row][t]) for t in places}
        for t in places:
            low, high = min(squeezed.values()), max(squeezed.values())
            share = (squeezed[t] - low) / (high - low)
            over = 1 + boost * (share - threshold) / (1 - threshold)
            gates[row, t] = share / threshold if share < threshold else over
        if places:
            scales[row] = len(places) / sum(gates[row, t] for t in places)
    wanted = loop(tokens, lambda row, t: gates[row, t] * scales[row])
    assert_equal_and_varied(Pgpo(threshold=threshold, boost=boost)(tokens), wanted, tokens)


def test_every_sample_keeps_its_mass():
    tokens = token_readings()
    weights = Pgpo()(tokens)
    torch.testing.assert_close(weights.sum(dim=1), tokens.valid.sum(dim=1).double())


def test_a_sample_of_one_label_and_one_of_equal_ones_weigh_1():
    tokens = token_readings()
    tokens.valid[0] = torch.arange(9) == 4
    tokens.readings["kl"][2] = 0.0
    weights = Pgpo()(tokens)
    assert weights[0, 4] == 1
    assert torch.equal(weights[2], tokens.valid[2].double())


@pytest.mark.parametrize("settings", [{"threshold": 0}, {"threshold": 1}, {"boost": -1}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Pgpo(**settings)
