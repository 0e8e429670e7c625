"""Drawn by hypothesis: Δ and losses of a few label tokens, and the settings of a weighting."""

import math

import torch
from hypothesis import strategies as st

FORMS = ["exact", "paper", "released"]
IN_SAMPLE = ["exact", "paper"]


@st.composite
def token_cases(draw, forms=tuple(FORMS)):
    """(Δ, losses, label mask, settings), arrays (batch, seq) in float64."""
    batch, seq = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    size = batch * seq
    delta = draw(st.lists(st.floats(-9, 9, width=32), min_size=size, max_size=size))
    nll = draw(st.lists(st.floats(0, 12, width=32), min_size=size, max_size=size))
    valid = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    alpha = draw(st.one_of(st.just(0.0), st.floats(0.01, 3)))
    beta = draw(st.one_of(st.just(math.inf), st.floats(max(alpha, 0.01), 12), st.just(alpha or 0.5)))
    setting = {
        "alpha": alpha,
        "beta": beta,
        "window": draw(st.sampled_from([1, 3, 5, 7])),
        "form": draw(st.sampled_from(forms)),
    }
    arrays = torch.tensor([delta, nll], dtype=torch.float64).view(2, batch, seq)
    return arrays[0], arrays[1], torch.tensor(valid).view(batch, seq), setting
