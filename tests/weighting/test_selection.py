"""The top share of label tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.small_readings import kept, token_readings

from contralign.weighting.selection import top_share
from contralign.weighting.vig import Vig


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    keep=st.sampled_from([0.01, 0.1, 1 / 3, 0.55, 0.9, 1.0]),
    over=st.sampled_from(["batch", "sample"]),
)
def test_it_is_what_ranking_by_hand_gives(seed, keep, over):
    tokens = token_readings(seed)
    values = tokens["delta_logit"].nan_to_num().round()  # so that some are equal
    found = top_share(values, tokens.pictured, keep, over)
    assert {tuple(place) for place in found.nonzero().tolist()} == kept(tokens, values.tolist(), keep, over)


def test_a_share_that_floating_point_puts_above_a_whole_number_is_that_number():
    values = torch.arange(100.0).unsqueeze(0)
    assert 0.07 * 100 > 7
    assert top_share(values, torch.ones(1, 100, dtype=torch.bool), 0.07, "batch").sum() == 7


def test_over_a_sample_every_sample_keeps_some_and_over_the_batch_not():
    values = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    among = torch.ones(2, 2, dtype=torch.bool)
    assert top_share(values, among, 0.5, "sample").tolist() == [[False, True], [False, True]]
    assert top_share(values, among, 0.5, "batch").tolist() == [[False, False], [True, True]]


def test_an_unknown_range_is_refused():
    with pytest.raises(ValueError, match="over='row': wanted one of batch, sample"):
        Vig(over="row")  # type: ignore[arg-type]
