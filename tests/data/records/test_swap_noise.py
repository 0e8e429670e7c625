from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.records.swap_noise import swap_images


def sample(index: int, pictures=None) -> Sample:
    held = (Path(f"/p/{index}.png"),) if pictures is None else tuple(Path(name) for name in pictures)
    turns = (Turn("user", IMAGE * len(held) + "What?"), Turn("assistant", f"caption {index}"))
    return Sample(str(index), turns, held)


@given(st.integers(0, 60), st.integers(0, 10), st.integers(0, 20), st.integers(0, 5))
def test_a_share_of_the_pictures_changes_partners_and_no_text_moves(count, text_only, twentieth, seed):
    samples = [sample(index) for index in range(count)] + [sample(count + i, ()) for i in range(text_only)]
    swapped, ids = swap_images(samples, twentieth / 20, seed)
    wanted = twentieth * count // 20
    assert len(ids) == wanted - wanted % 2
    by_picture = {old.pictures: place for place, old in enumerate(samples) if old.pictures}
    for place, (old, new) in enumerate(zip(samples, swapped, strict=True)):
        assert (old.id, old.turns, old.spans) == (new.id, new.turns, new.spans)
        assert (old.pictures != new.pictures) == (old.id in ids)
        if old.id in ids:
            assert swapped[by_picture[new.pictures]].pictures == samples[place].pictures


def test_the_same_seed_gives_the_same_pairs_and_another_others():
    samples = [sample(index) for index in range(40)]
    first, again, other = (swap_images(samples, 0.3, seed) for seed in (1, 1, 2))
    assert first == again and first != other
    assert len(first[1]) == 12


def test_partners_never_have_the_same_picture():
    samples = [sample(index, [f"/p/{index % 3}.png"]) for index in range(30)]
    for seed in range(20):
        swapped, ids = swap_images(samples, 1.0, seed)
        changed = {new.id for old, new in zip(samples, swapped, strict=True) if old.pictures != new.pictures}
        assert changed == ids and len(ids) == 30


def test_partners_have_equally_many_pictures():
    samples = [sample(index, [f"/p/{index}{letter}.png" for letter in "ab"[: 1 + index % 2]]) for index in range(20)]
    swapped, ids = swap_images(samples, 1.0, 0)
    assert len(ids) == 20
    assert all(len(old.pictures) == len(new.pictures) for old, new in zip(samples, swapped, strict=True))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction="):
        swap_images([sample(0), sample(1)], fraction, 0)


def test_one_picture_for_all_cannot_be_swapped():
    with pytest.raises(ValueError, match="no partner"):
        swap_images([sample(index, ["/p/same.png"]) for index in range(6)], 1.0, 0)


def test_ids_that_are_not_unique_are_refused():
    with pytest.raises(ValueError, match="not unique"):
        swap_images([sample(1), sample(1)], 1.0, 0)
