"""Rows for the image token."""

import pytest

from contralign.models.decoder.image_token import padded_vocab_size


@pytest.mark.parametrize(
    ("image_token_id", "rows", "wanted"),
    [(32000, 32000, 32064), (31999, 32000, 32000), (32063, 32000, 32064), (32064, 32000, 32128), (0, 96, 96)],
)
def test_a_vocabulary_grows_in_steps_of_64_and_only_where_the_image_token_lies_behind_it(image_token_id, rows, wanted):
    assert padded_vocab_size(image_token_id, rows) == wanted
