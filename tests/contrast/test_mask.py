"""Hiding the keys of image tokens."""

from dataclasses import replace

import torch
from worlds.small_batches import a_batch

from contralign.contrast.mask import MaskImage


def test_only_attention_to_image_tokens_changes():
    batch = a_batch()
    view = MaskImage()(batch)
    assert torch.equal(view.attention_mask, batch.attention_mask * (~batch.image_mask).long())
    for name in ("input_ids", "labels", "image_mask", "position_ids", "inputs_embeds", "token_index"):
        assert getattr(view, name) is getattr(batch, name)


def test_the_batch_it_was_given_is_untouched():
    batch = a_batch()
    before = batch.attention_mask.clone()
    MaskImage()(batch)
    assert torch.equal(batch.attention_mask, before)


def test_what_is_given_of_pictures_out_of_line_is_left_out_too():
    batch = replace(a_batch(), cross_attention_inputs={"cross_attention_states": torch.zeros(4, 3)})
    assert MaskImage()(batch).cross_attention_inputs == {}
