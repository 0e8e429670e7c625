"""Every label counts 1."""

from worlds.small_readings import loop, token_readings

from contralign.weighting.uniform import Uniform


def test_it_is_1_at_labels_and_0_elsewhere():
    tokens = token_readings()
    assert Uniform()(tokens).tolist() == loop(tokens, lambda row, t: 1.0).tolist()
    assert 0 < tokens.valid.sum() < tokens.valid.numel()
