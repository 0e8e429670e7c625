"""Taking image tokens out: what stays, where it stood, and that nothing given is edited."""

from dataclasses import replace

import pytest
import torch
from worlds.by_hand import assert_delta, delta_by_hand, image_columns
from worlds.small_batches import a_batch
from worlds.small_models import IMAGE_TOKEN, PICTURE_TOKENS, build_llava, mixed_batch

from contralign.batch import IGNORE_INDEX
from contralign.contrast.drop import DropImage
from contralign.core.passes import compare_passes
from contralign.models.adapters.generic import GenericAdapter
from contralign.models.adapters.registry import adapter_for


def test_text_keeps_its_positions_and_tokens_after_the_last_label_go():
    view = DropImage()(a_batch())
    assert view.row_index.tolist() == [[0] * 4, [2] * 4]
    assert view.input_ids.tolist() == [[1, 5, 6, 7], [1, 5, 6, 7]]
    assert view.position_ids.tolist() == [[0, 3, 4, 5], [2, 3, 6, 7]]
    assert view.token_index.tolist() == [[0, 3, 4, 5], [2, 3, 6, 7]]
    assert view.labels.tolist() == [[-100, -100, 6, 7], [-100, -100, 6, 7]]
    assert view.inputs_embeds[:, :, 0].tolist() == [[0, 3, 4, 5], [22, 23, 26, 27]]
    assert view.attention_mask.all()
    assert not view.image_mask.any()


def test_shorter_rows_are_padded_on_the_right():
    batch = a_batch()
    labels = batch.labels.clone()
    labels[0, 5] = IGNORE_INDEX
    view = DropImage()(replace(batch, labels=labels))
    assert view.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert view.labels[0].tolist() == [-100, -100, 6, -100]


def test_position_ids_of_several_axes_are_gathered_on_each():
    view = DropImage()(a_batch(positions="3d"))
    assert view.position_ids[:, 0].tolist() == [[0, 3, 4, 5], [100, 103, 104, 105], [200, 203, 204, 205]]


def test_the_batch_it_was_given_is_untouched():
    batch = a_batch()
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    DropImage()(batch)
    for name, value in before.items():
        assert torch.equal(getattr(batch, name), value), name


@pytest.mark.parametrize("row", [1, 3])
def test_rows_whose_labels_see_no_picture_are_left_out(row):
    assert not (DropImage()(a_batch()).row_index == row).any()


PROMPT = [11, 12]


def spoken(adapter, ids=PROMPT):
    """A prompt of these ids."""
    words = torch.tensor(ids)
    return DropImage(prompt="an image", words=lambda: (words, adapter.embed_text(words)))


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("make", [adapter_for, GenericAdapter])
def test_a_prompt_stands_at_the_last_places_of_the_first_picture(padding, pack, make):
    model = build_llava(torch.float64)
    inputs = mixed_batch(images=(1, 0, 2, 1, 2), padding=padding, dtype=torch.float64)
    adapter = make(model)
    looks = compare_passes(adapter, replace(spoken(adapter), pack=pack), adapter.prepare(inputs))
    lookup = model.get_input_embeddings()

    def second(row):
        places = image_columns(inputs, row)[PICTURE_TOKENS - len(PROMPT) : PICTURE_TOKENS]
        return {place: lookup(torch.tensor(word)) for place, word in zip(places, PROMPT, strict=True)}

    assert_delta(looks, delta_by_hand(model, inputs, second))


def plain_caption():
    return {
        "input_ids": torch.tensor([[1, *[IMAGE_TOKEN] * 4, 5, 6, 7]]),
        "labels": torch.tensor([[-100] * 5 + [5, 6, 7]]),
        "pixel_values": torch.randn(1, 3, 28, 28).double(),
    }


def test_the_context_of_a_plain_captions_first_word_is_the_prompt():
    model = build_llava(torch.float64)
    adapter = adapter_for(model)
    batch = adapter.prepare(plain_caption())
    view = spoken(adapter)(batch)
    assert view.input_ids.tolist() == [[1, *PROMPT, 5, 6, 7]]
    assert view.position_ids.tolist() == [[0, 3, 4, 5, 6, 7]]
    text = model(input_ids=torch.tensor([[1, *PROMPT, 5, 6]]), position_ids=torch.tensor([[0, 3, 4, 5, 6]])).logits[0]
    full = adapter.logits(adapter.hidden(batch)[0])
    delta = compare_passes(adapter, spoken(adapter), batch).delta["logit"][0]
    wanted = torch.stack([full[4 + k, 5 + k] - text[2 + k, 5 + k] for k in range(3)])
    torch.testing.assert_close(delta[4:], wanted, rtol=0, atol=1e-10)
    assert (delta[4] - compare_passes(adapter, DropImage(), batch).delta["logit"][0, 4]).abs() > 0.5


class Scaled(torch.nn.Embedding):
    """An embedding layer that scales what it looks up, as Gemma 3's does."""

    def forward(self, input):
        return super().forward(input) * 3.0


def test_a_prompt_is_scaled_as_the_models_own_words_are():
    model = build_llava(torch.float64)
    scaled = Scaled(*model.get_input_embeddings().weight.shape, dtype=torch.float64)
    scaled.load_state_dict(model.get_input_embeddings().state_dict())
    model.set_input_embeddings(scaled)
    adapter = adapter_for(model)
    batch = adapter.prepare(plain_caption())
    text = model(input_ids=torch.tensor([[1, *PROMPT]]), position_ids=torch.tensor([[0, 3, 4]])).logits[0, -1, 5]
    full = adapter.logits(adapter.hidden(batch)[0])[4, 5]
    torch.testing.assert_close(compare_passes(adapter, spoken(adapter), batch).delta["logit"][0, 4], full - text)


def test_a_prompt_longer_than_a_picture_is_refused():
    adapter = adapter_for(build_llava())
    batch = adapter.prepare(mixed_batch(images=(0, 1)))
    assert spoken(adapter, [11] * 4)(batch).input_ids[0].tolist().count(11) >= 4
    with pytest.raises(
        ValueError, match="row 1: prompt='an image' is 5 tokens and the picture that it stands for is 4"
    ):
        spoken(adapter, [11] * 5)(batch)


def test_a_prompt_changes_nothing_in_a_batch_of_text_and_nothing_it_was_given():
    adapter = adapter_for(build_llava())
    assert spoken(adapter)(adapter.prepare(mixed_batch(images=(0, 0)))).row_index.numel() == 0
    batch = adapter.prepare(mixed_batch())
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    spoken(adapter)(batch)
    for name, value in before.items():
        assert torch.equal(getattr(batch, name), value), name


def test_an_empty_prompt_and_one_without_words_are_refused():
    with pytest.raises(ValueError, match="prompt=''"):
        DropImage(prompt="")
    with pytest.raises(ValueError, match=r"reading\.fitted"):
        DropImage(prompt="an image")(a_batch())
