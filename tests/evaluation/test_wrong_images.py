from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from worlds.tiny_worlds import coloured_samples

from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.evaluation.wrong_images import image_digest, with_wrong_images


def plain(name, *greys):
    pictures = tuple(Image.new("RGB", (4, 4), (grey,) * 3) for grey in greys)
    return Sample(name, (Turn("user", IMAGE * len(greys)), Turn("assistant", "yes")), pictures)


def digests(samples):
    return [image_digest(sample) for sample in samples]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.integers(0, 3))
@settings(deadline=None)
def test_nobody_keeps_their_picture_nor_a_copy_of_it(greys, seed):
    samples = [plain(str(index), grey) for index, grey in enumerate(greys)]
    if 2 * max(Counter(greys).values()) > len(greys):
        with pytest.raises(ValueError, match="share the same"):
            with_wrong_images(samples, seed)
        return
    wrong = with_wrong_images(samples, seed)
    assert all(own != other for own, other in zip(digests(samples), digests(wrong), strict=True))
    assert Counter(digests(samples)) == Counter(digests(wrong))
    assert [(one.id, one.turns) for one in wrong] == [(one.id, one.turns) for one in samples]


def test_only_samples_with_as_many_pictures_exchange_them():
    samples = [plain("a", 1), plain("b", 2, 3), plain("c", 4), plain("d", 5, 6)]
    assert [len(sample.pictures) for sample in with_wrong_images(samples, 0)] == [1, 2, 1, 2]


def test_the_seed_decides():
    samples = [plain(str(grey), grey) for grey in range(20)]
    assert digests(with_wrong_images(samples, 3)) == digests(with_wrong_images(samples, 3))
    assert digests(with_wrong_images(samples, 3)) != digests(with_wrong_images(samples, 4))


def test_the_given_samples_stay_as_they_are():
    samples = coloured_samples(6)
    before = digests(samples)
    with_wrong_images(samples, 0)
    assert digests(samples) == before


def test_refuses_a_sample_without_a_picture():
    with pytest.raises(ValueError, match="'t' has no picture"):
        with_wrong_images([Sample("t", (Turn("user", "a"), Turn("assistant", "b")))], 0)
