"""Which image tokens are the last of their run, and which stand in the first run of a row."""

import torch
from test_drop import a_batch

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
