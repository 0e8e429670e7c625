"""CAL between quantiles of Δ."""

import math

import pytest
import torch
from worlds.small_readings import assert_equal_and_varied, listed, pictured, token_readings

from contralign.core.reference import reference_weights
from contralign.weighting.quantile import Quantile


def quantile(values, level):
    """Linear between the two values around it."""
    ranked, place = sorted(values), level * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])


@pytest.mark.parametrize("score", ["logit", "centred", "logprob"])
@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 0.0, "beta": 2.0, "window": 1}, {"low": 0.0, "high": 1.0, "window": 5}]
)
def test_it_equals_the_formula_token_by_token(score, settings):
    tokens, rule = token_readings(), Quantile(score=score, **settings)
    delta = listed(tokens, f"delta_{score}")
    values = [delta[row][t] for row, t in pictured(tokens)]
    low, high = quantile(values, rule.low), quantile(values, rule.high)
    mapped = [[1.0] * len(row) for row in delta]
    for row, t in pictured(tokens):
        share = (min(max(delta[row][t], low), high) - low) / (high - low)
        mapped[row][t] = rule.alpha + (rule.beta - rule.alpha) * share
    wanted = reference_weights(mapped, tokens.valid.tolist(), 0.0, math.inf, rule.window, "exact")
    assert_equal_and_varied(rule(tokens), torch.tensor(wanted, dtype=torch.float64), tokens)


def test_units_and_offset_of_delta_do_not_matter():
    tokens = token_readings()
    before = Quantile()(tokens)
    tokens.readings["delta_logit"].mul_(40).add_(7)
    torch.testing.assert_close(Quantile()(tokens), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2.0, "beta": 2.0}, r"beta=2.0: wanted a finite number above alpha"),
        ({"beta": math.inf}, "beta=inf: wanted a finite number above alpha"),
        ({"low": 0.9, "high": 0.2}, "wanted low below high"),
        ({"low": -0.1}, "low=-0.1"),
        ({"high": 1.1}, "high=1.1"),
        ({"window": 2}, "window=2"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Quantile(**settings)
