"""Rows of a measured batch."""

import pytest
import torch

from contralign.batch import IGNORE_INDEX
from contralign.bench.random_batch import BatchInputs, make_batch
from contralign.bench.shapes import named_shape

IMAGE, MARK = 99, 98


def inputs(marks=0):
    picture = [MARK] * (marks - marks // 2) + [IMAGE] * 4 + [MARK] * (marks // 2)
    return BatchInputs(
        words=torch.arange(3, 90),
        bos=1,
        picture=picture,
        num_marks=marks,
        vision_inputs={"pixel_values": torch.zeros(2, 3, 8, 8)},
        token_fields={"mm_token_type_ids": [int(token == IMAGE) for token in picture]},
    )


@pytest.fixture
def shape():
    """Two rows with a picture of 4 tokens, one without."""
    return named_shape(
        "tiny", image_tokens=4, text_tokens=20, label_tokens=8, prefix=5, batch=3, text_only_rows=1, vocabulary=100
    )


@pytest.mark.parametrize("marks", [0, 3])
def test_a_row_is_prefix_picture_question_answer(shape, marks):
    batch = make_batch(shape, inputs(marks))
    ids, labels = batch["input_ids"], batch["labels"]
    block = torch.tensor(inputs(marks).picture)
    for row in range(2):
        assert torch.equal(ids[row, 5 : 5 + len(block)], block)
        assert int((ids[row] == IMAGE).sum()) == 4
        assert torch.equal(labels[row, -8:], ids[row, -8:])
        assert bool((labels[row, :-8] == IGNORE_INDEX).all())
    assert bool((batch["attention_mask"][:2] == 1).all())
    assert torch.equal(batch["mm_token_type_ids"], (ids == IMAGE).long())


def test_the_prefix_is_the_same_in_every_row_and_the_rest_is_not(shape):
    ids = make_batch(shape, inputs())["input_ids"]
    assert bool((ids[:, :5] == ids[0, :5]).all())
    assert bool((ids[:, 0] == 1).all())
    assert not torch.equal(ids[0, 9:], ids[1, 9:])


def test_a_row_of_text_alone_has_as_much_text_and_is_padded(shape):
    batch = make_batch(shape, inputs(marks=3))
    assert batch["attention_mask"].sum(dim=1).tolist() == [24, 24, 20]
    assert (batch["labels"] != IGNORE_INDEX).sum(dim=1).tolist() == [8, 8, 8]
    assert not bool(torch.isin(batch["input_ids"][2], torch.tensor([IMAGE, MARK])).any())
    assert torch.equal(batch["labels"][2, 12:20], batch["input_ids"][2, 12:20])


def test_the_seed_decides_the_words(shape):
    one, two = (make_batch(shape, inputs())["input_ids"] for _ in range(2))
    assert torch.equal(one, two)


def test_marks_that_leave_no_room_for_the_question_are_refused(shape):
    with pytest.raises(ValueError, match="8 marks around a picture, and text_tokens=20 leaves 7"):
        make_batch(shape, inputs(marks=8))
