"""Where scores are read: at the last token before a label that may be attended to, every token once."""

from dataclasses import replace

from worlds.small_batches import a_batch

from contralign.core.reading_positions import at_tokens, reading_positions, unique_positions


def hidden_picture():
    batch = a_batch()
    return replace(batch, attention_mask=batch.attention_mask * ~batch.image_mask)


def test_a_label_behind_a_hidden_picture_is_read_at_the_text_before_it():
    view = hidden_picture()
    columns, readable = reading_positions(view)
    assert [columns[row][readable[row]].tolist() for row in range(4)] == [[3, 4], [3, 4, 5, 6], [3, 6], [1, 2]]


def test_the_released_code_reads_at_the_token_before_whatever_it_is():
    columns, readable = reading_positions(hidden_picture(), at_every_position=True)
    assert columns.tolist() == [list(range(7))] * 4 and readable.all()


def test_every_token_that_is_read_at_is_taken_once_and_every_label_finds_its_own():
    view = hidden_picture()
    columns, readable = reading_positions(view)
    at, order = unique_positions(columns, readable, view.input_ids.shape[1])
    rows, found = at.nonzero(as_tuple=True)
    assert found[order].tolist() == columns[readable].tolist()
    assert rows[order].tolist() == readable.nonzero()[:, 0].tolist()


def test_the_last_token_predicts_nothing():
    batch = a_batch()
    at = at_tokens(batch.valid)
    assert at.shape == batch.input_ids.shape and not at[:, -1].any()
