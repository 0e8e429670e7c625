"""Masks over pairs of tokens: recorded as truth values, and picked for the tokens of a view."""

from dataclasses import replace

import pytest
import torch

from contralign.batch import SHARED, VLBatch, column_indices
from contralign.models.decoder.attention_mask import EVERY_LAYER, decoder_mask, own_masks, pair_mask

CAUSAL = torch.ones(4, 4, dtype=torch.bool).tril()


def batch_of(rows=2, width=4, **changes):
    ids = torch.arange(rows * width).view(rows, width)
    row_index, token_index = column_indices(ids)
    return VLBatch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=torch.full_like(ids, -100),
        image_mask=torch.zeros_like(ids, dtype=torch.bool),
        position_ids=None,
        inputs_embeds=torch.zeros(rows, width, 3),
        row_index=row_index,
        token_index=token_index,
        **changes,
    )


def test_a_mask_of_keys_is_no_mask_of_the_models_own():
    keys = torch.ones(2, 4, dtype=torch.long)
    assert own_masks(None, keys) is None
    assert own_masks(keys, keys) is None
    assert own_masks({"full_attention": None, "sliding_attention": keys}, keys) is None


def test_truth_values_and_summands_are_read_alike_and_none_is_causal():
    keys = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    truth = (CAUSAL & keys.bool().unsqueeze(1)).unsqueeze(1)
    summand = torch.zeros(2, 1, 4, 4).masked_fill(~truth, torch.finfo(torch.float32).min)
    found = own_masks({"full_attention": None, "sliding_attention": truth, "another": summand}, keys)
    for mask in found.values():
        assert torch.equal(mask, truth.squeeze(1))
    assert list(own_masks(truth[1:], keys)) == [EVERY_LAYER]
    assert own_masks(truth[1:], keys)[EVERY_LAYER].shape == (2, 4, 4)


@pytest.mark.parametrize("mask", [torch.ones(2, 3, 4, 4), object(), torch.ones(2, 4, 4)])
def test_a_mask_of_another_kind_is_refused(mask):
    with pytest.raises(ValueError, match=r"wanted \(batch, 1, tokens, tokens\)"):
        own_masks(mask, torch.ones(2, 4))


def test_the_whole_batch_gets_its_own_mask_back():
    attends = torch.rand(2, 4, 4) > 0.4
    attends |= torch.eye(4, dtype=torch.bool)
    assert torch.equal(pair_mask(batch_of(), "sdpa", attends).squeeze(1), attends)
    summed = pair_mask(batch_of(), "eager", attends).squeeze(1)
    assert torch.equal(summed == 0, attends)
    assert (summed[~attends] == torch.finfo(torch.float32).min).all()


def test_a_view_picks_its_rows_and_columns_and_hides_its_keys():
    attends = torch.rand(3, 6, 6) > 0.5
    attends |= torch.eye(6, dtype=torch.bool)
    rows, columns = torch.tensor([[2, 2, 2, 2], [0, 0, 0, 0]]), torch.tensor([[0, 2, 3, 5], [1, 2, 4, 5]])
    keys = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    view = replace(batch_of(), row_index=rows, token_index=columns, attention_mask=keys)
    found = pair_mask(view, "sdpa", attends).squeeze(1)
    for line in range(2):
        for query in range(4):
            for key in range(4):
                told = attends[rows[line, query], columns[line, query], columns[line, key]] & keys[line, key].bool()
                if not (line == 1 and query == 3):
                    assert found[line, query, key] == told


def test_packed_rows_do_not_meet_and_what_is_shared_is_read_by_both():
    attends = torch.ones(2, 4, 4, dtype=torch.bool).tril()
    rows = torch.tensor([[SHARED, 0, 0, 1]])
    columns = torch.tensor([[0, 2, 3, 3]])
    view = replace(batch_of(rows=1), row_index=rows, token_index=columns, packed=True)
    expected = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    assert torch.equal(pair_mask(view, "sdpa", attends)[0, 0], expected)
    assert torch.equal(pair_mask(view, "sdpa")[0, 0], expected)


def test_a_token_that_may_attend_to_nothing_attends_to_itself_and_no_other_does():
    attends = torch.zeros(2, 4, 4, dtype=torch.bool)
    attends[:, 2, 0] = True
    found = pair_mask(batch_of(), "sdpa", attends).squeeze(1)
    assert found[0].nonzero().tolist() == [[0, 0], [1, 1], [2, 0], [3, 3]]


def test_the_decoder_is_given_one_mask_or_one_for_each_kind_of_layer():
    batch = batch_of()
    assert decoder_mask(batch, "sdpa") is batch.attention_mask
    causal = CAUSAL.expand(2, -1, -1)
    assert decoder_mask(replace(batch, pair_masks={EVERY_LAYER: causal}), "sdpa").shape == (2, 1, 4, 4)
    kinds = decoder_mask(replace(batch, pair_masks={"full_attention": causal, "sliding_attention": causal}), "sdpa")
    assert list(kinds) == ["full_attention", "sliding_attention"]
