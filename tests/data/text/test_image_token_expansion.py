import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.batch import IGNORE_INDEX
from contralign.data.text.image_token_expansion import expand_images
from contralign.data.text.loss_mask import IMAGE_SENTINEL, EncodedSample

IMAGE_TOKEN = 9999


@st.composite
def rows(draw):
    """An encoded sample and how long each of its pictures is."""
    tokens = draw(st.lists(st.one_of(st.just(IMAGE_SENTINEL), st.integers(1, 500)), min_size=1, max_size=30))
    learned = [draw(st.booleans()) for _ in tokens]
    labels = tuple(token if learn else IGNORE_INDEX for token, learn in zip(tokens, learned, strict=True))
    spans = tuple(
        (1, at, at + 1) if learn and token != IMAGE_SENTINEL else None
        for at, (token, learn) in enumerate(zip(tokens, learned, strict=True))
    )
    lengths = [draw(st.integers(1, 12)) for token in tokens if token == IMAGE_SENTINEL]
    return EncodedSample(tuple(tokens), labels, spans), lengths


def expand(encoded, lengths, image_token, max_length=None):
    return expand_images(encoded, [(image_token,) * length for length in lengths], max_length)


@given(rows())
def test_without_a_limit_every_picture_takes_its_length_and_text_stays(row):
    encoded, lengths = row
    spliced = expand(encoded, lengths, IMAGE_TOKEN)
    text = [token for token in encoded.input_ids if token != IMAGE_SENTINEL]
    assert [token for token in spliced.input_ids if token != IMAGE_TOKEN] == text
    assert len(spliced.input_ids) == len(text) + sum(lengths)
    assert len(spliced.image_starts) == len(lengths)
    for start, length in zip(spliced.image_starts, lengths, strict=True):
        assert set(spliced.input_ids[start : start + length]) == {IMAGE_TOKEN}


@given(rows())
def test_labels_and_spans_stay_with_their_tokens_and_never_touch_a_picture(row):
    encoded, lengths = row
    spliced = expand(encoded, lengths, IMAGE_TOKEN)
    assert len(spliced.input_ids) == len(spliced.labels) == len(spliced.token_spans)
    for token, label, span in zip(spliced.input_ids, spliced.labels, spliced.token_spans, strict=True):
        assert label in (IGNORE_INDEX, token)
        assert token != IMAGE_TOKEN or (label == IGNORE_INDEX and span is None)
    kept = [span for span in encoded.token_spans if span]
    assert [span for span in spliced.token_spans if span] == kept
    assert spliced.num_labels == encoded.num_labels


@given(rows(), st.integers(1, 80))
def test_cutting_keeps_a_beginning_with_whole_pictures_only(row, max_length):
    encoded, lengths = row
    full, cut = expand(encoded, lengths, IMAGE_TOKEN), expand(encoded, lengths, IMAGE_TOKEN, max_length)
    size = len(cut.input_ids)
    assert size <= max_length
    assert cut.input_ids == full.input_ids[:size] and cut.labels == full.labels[:size]
    kept = len(cut.image_starts)
    assert cut.input_ids.count(IMAGE_TOKEN) == sum(lengths[:kept])
    if size < len(full.input_ids):
        at_a_picture = kept < len(lengths) and full.image_starts[kept] == size
        assert size == max_length or (at_a_picture and size + lengths[kept] > max_length)


def test_a_picture_across_the_limit_is_dropped_whole_with_all_that_follows():
    encoded = EncodedSample(
        (1, IMAGE_SENTINEL, 2, IMAGE_SENTINEL, 3), (IGNORE_INDEX,) * 2 + (2, IGNORE_INDEX, 3), (None,) * 5
    )
    cut = expand(encoded, [3, 4], IMAGE_TOKEN, 8)
    assert cut.input_ids == (1, IMAGE_TOKEN, IMAGE_TOKEN, IMAGE_TOKEN, 2)
    assert cut.image_starts == (1,)


def test_blocks_may_hold_more_than_image_tokens():
    encoded = EncodedSample((1, IMAGE_SENTINEL, 2), (IGNORE_INDEX, IMAGE_SENTINEL, 2), (None, None, (1, 0, 1)))
    spliced = expand_images(encoded, [(70, IMAGE_TOKEN, 71)])
    assert spliced.input_ids == (1, 70, IMAGE_TOKEN, 71, 2)
    assert spliced.labels == (IGNORE_INDEX,) * 4 + (2,)


@pytest.mark.parametrize("lengths", [[], [1, 2]])
def test_other_numbers_of_places_and_pictures_are_refused(lengths):
    with pytest.raises(ValueError, match="1 picture places"):
        expand(EncodedSample((IMAGE_SENTINEL,), (IGNORE_INDEX,), (None,)), lengths, IMAGE_TOKEN)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_length=0"):
        expand(EncodedSample((1,), (1,), (None,)), [], IMAGE_TOKEN, 0)
