"""Which image tokens are the last of their run, and which stand in the first run of a row."""

from dataclasses import replace

import torch
from worlds.small_batches import a_batch

from contralign.batch import SHARED, column_indices
from contralign.contrast.taking_out import first_run, last_of_runs, take_out

MASK = torch.tensor([[0, 1, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]]).bool()


def test_the_last_tokens_of_every_run_or_all_of_a_shorter_one():
    assert last_of_runs(MASK, 1).int().tolist() == [[0, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 1], [0] * 7]
    assert last_of_runs(MASK, 2).int().tolist() == [[0, 0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1, 1], [0] * 7]
    assert torch.equal(last_of_runs(MASK, 9), MASK)


def test_the_first_run_of_every_row():
    assert first_run(MASK).int().tolist() == [[0, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0] * 7]


def test_what_is_not_taken_stays_at_its_place():
    batch = a_batch()
    view = take_out(batch, batch.image_mask & ~last_of_runs(batch.image_mask, 1))
    assert view.token_index.tolist() == [[0, 2, 3, 4, 5], [2, 3, 5, 6, 7]]
    assert view.position_ids.tolist() == view.token_index.tolist()
    assert view.labels.tolist() == [[-100, -100, -100, 6, 7], [-100, -100, -100, 6, 7]]


def test_what_stands_beside_an_embedding_goes_with_its_token_and_what_is_out_of_line_goes():
    batch = a_batch()
    deeper = torch.rand(4, 8, 2, 3)
    batch = replace(batch, token_inputs={"deeper": deeper}, cross_attention_inputs={"states": torch.zeros(4, 3)})
    view = take_out(batch, batch.image_mask)
    assert torch.equal(view.token_inputs["deeper"], deeper[view.row_index, view.token_index])
    assert view.cross_attention_inputs == {}


def a_prefix(batch, row, first, last):
    """The batch with one row that reads columns first to last in both directions, the others causally."""
    attends = torch.ones(4, 8, 8, dtype=torch.bool).tril()
    attends[row, first : last + 1, first : last + 1] = True
    return replace(batch, pair_masks={"": attends})


def test_a_text_before_the_picture_sees_it_where_it_looks_ahead():
    """Row 3 has labels in columns 2 and 3 only, before its picture."""
    causal = take_out(a_prefix(a_batch(), 3, 0, 0), a_batch().image_mask)
    assert 3 not in causal.row_index
    view = take_out(a_prefix(a_batch(), 3, 0, 5), a_batch().image_mask)
    assert view.token_index[view.row_index == 3].tolist() == [0, 1, 2, 3]
    assert view.labels[view.row_index == 3].tolist() == [-100, -100, 6, 7]


def test_text_behind_the_last_label_stays_where_something_before_it_reads_it():
    view = take_out(a_prefix(a_batch(), 0, 0, 6), a_batch().image_mask)
    assert view.token_index[0].tolist() == [0, 3, 4, 5, 6]
    assert view.labels[0].tolist() == [-100, -100, 6, 7, -100]


def test_a_row_of_text_that_looks_ahead_sees_no_picture():
    assert 1 not in take_out(a_prefix(a_batch(), 1, 0, 7), a_batch().image_mask).row_index


def test_a_beginning_that_looks_ahead_is_not_shared():
    batch = a_batch()
    ids = torch.tensor([[1, 2, 9, 5, 6], [1, 2, 9, 5, 7]])
    labels = torch.full_like(ids, -100)
    labels[:, 4] = ids[:, 4]
    rows, columns = column_indices(ids)
    batch = replace(
        batch,
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=labels,
        image_mask=ids == 9,
        position_ids=columns,
        inputs_embeds=torch.zeros(2, 5, 3),
        row_index=rows,
        token_index=columns,
    )
    causal = torch.ones(2, 5, 5, dtype=torch.bool).tril()
    ahead = causal.clone()
    ahead[:, :4, :4] = True
    one, other = (
        take_out(replace(batch, pair_masks={"": each}), batch.image_mask, pack=True) for each in (causal, ahead)
    )
    assert (one.row_index == SHARED).sum() == 2
    assert not (other.row_index == SHARED).any()
