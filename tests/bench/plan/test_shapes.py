from __future__ import annotations

import pytest

from contralign.bench.plan.shapes import Decoder, Sample, Tower


@pytest.mark.parametrize(
    "counts",
    [{"image": -1, "text": 4, "labels": 1}, {"image": 1, "text": 4, "labels": 5}, {"image": 1, "text": 4, "labels": 0}],
)
def test_token_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="label"):
        Sample(**counts)


def test_labels_never_lie_in_the_prefix():
    with pytest.raises(ValueError, match="prefix"):
        Sample(image=9, text=10, labels=8, prefix=3)


def test_a_tied_head_is_one_matrix():
    sizes = {"hidden": 8, "layers": 1, "heads": 2, "kv_heads": 2, "intermediate": 4, "vocab": 100}
    assert Decoder(**sizes).parameters - Decoder(**sizes, tied=True).parameters == 800


def test_clip_has_576_patches_and_300_million_weights():
    assert Tower().patches == 576
    assert Tower().parameters == pytest.approx(303e6, rel=0.01)
