"""Readings of the label tokens of a small batch, and the same as plain lists for loops."""

from __future__ import annotations

import torch

from contralign.weighting.base import TokenReadings

NAMES = ("delta_logit", "delta_centred", "delta_logprob", "nll", "nll_without", "kl", "reference_nll")


def token_readings(seed=0, rows=4, width=9, text_row=1, dtype=torch.float64, equal=False):
    """A row without labels, one without a picture, others with both; NaN where nothing is labelled."""
    rng = torch.Generator().manual_seed(seed)
    valid = torch.rand(rows, width, generator=rng) < 0.7
    valid[-1] = False
    has_image = torch.ones(rows, dtype=torch.bool)
    if text_row is not None:
        has_image[text_row] = False
    values = {}
    for name in NAMES:
        drawn = 3 * torch.randn(rows, width, generator=rng, dtype=torch.float64)
        drawn = drawn.abs() if name in ("nll", "nll_without", "kl", "reference_nll") else drawn
        drawn = torch.full_like(drawn, 1.5) if equal else drawn
        values[name] = drawn.masked_fill(~valid, torch.nan).to(dtype)
    return TokenReadings(readings=values, valid=valid, has_image=has_image)


def loop(tokens, weigh):
    """Weights by a function of (row, position), called where a label sees a picture; 1 at other labels, else 0."""
    valid, has_image = tokens.valid.tolist(), tokens.has_image.tolist()
    return torch.tensor(
        [
            [(weigh(row, t) if has_image[row] else 1.0) if valid[row][t] else 0.0 for t in range(len(valid[row]))]
            for row in range(len(valid))
        ],
        dtype=torch.float64,
    )


def listed(tokens, name):
    """One reading as lists of Python floats."""
    return tokens[name].double().tolist()


def pictured(tokens):
    """(row, position) of every label that sees a picture."""
    return [tuple(place) for place in tokens.pictured.nonzero().tolist()]


def kept(tokens, value, keep, over):
    """The places that are chosen: ranked one by one, cut at the share, ties with the last one let in."""
    groups = [pictured(tokens)]
    if over == "sample":
        groups = [[place for place in pictured(tokens) if place[0] == row] for row in range(len(tokens.valid))]
    chosen = set()
    for places in groups:
        ranked = sorted(places, key=lambda place: -value[place[0]][place[1]])
        count = 0
        while count < len(places) and (count == 0 or count < keep * len(places) - 1e-9):
            count += 1
        if count:
            last = value[ranked[count - 1][0]][ranked[count - 1][1]]
            chosen |= {place for place in places if value[place[0]][place[1]] >= last}
    return chosen


def assert_equal_and_varied(found, wanted, tokens):
    """The weights are the loop's, and differ between labels with a picture: equal ones would hide a wrong rule."""
    assert found[tokens.pictured].std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
