import pytest
from worlds.tiny_worlds import coloured_samples

from contralign.evaluation.evaluation_set import draw


def test_no_limit_and_a_large_one_take_everything():
    samples = coloured_samples(6)
    assert draw(samples, None, 0, "x") == samples == draw(samples, 6, 0, "x")


def test_a_draw_is_seeded_and_keeps_the_order():
    samples = coloured_samples(12)
    drawn = [sample.id for sample in draw(samples, 5, 1, "x")]
    assert drawn == [sample.id for sample in draw(samples, 5, 1, "x")]
    assert drawn == [sample.id for sample in samples if sample.id in drawn]
    assert len({tuple(sample.id for sample in draw(samples, 5, seed, "x")) for seed in range(5)}) > 1


def test_refuses_an_empty_draw():
    with pytest.raises(ValueError, match="limit=0"):
        draw(coloured_samples(6), 0, 0, "x")
