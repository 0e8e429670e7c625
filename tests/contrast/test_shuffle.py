"""Another row's picture: against the model's own forward, who gets whose, and rows that nobody can give one to."""

import logging
from collections import Counter

import pytest
import torch
from worlds.by_hand import assert_delta, delta_by_hand, embedded, image_columns
from worlds.small_models import PICTURE_TOKENS, build_llava, mixed_batch

from contralign.batch import IGNORE_INDEX, VLBatch, column_indices
from contralign.contrast.base import Contrast
from contralign.contrast.shuffle import ShufflePictures
from contralign.core.passes import compare_passes
from contralign.models.adapters.generic import GenericAdapter
from contralign.models.adapters.registry import adapter_for

IMAGE = 9


def batch_of(pictures, lengths=None, draw=0):
    """Rows `1 picture 5 6`; a picture is one number in all its tokens, None a row of text."""
    lengths = lengths or [2] * len(pictures)
    rows = [
        [1] + [IMAGE] * (length if picture is not None else 0) + [5, 6]
        for picture, length in zip(pictures, lengths, strict=True)
    ]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.where((ids == 5) | (ids == 6), ids, IGNORE_INDEX)
    embeds = ids.double().unsqueeze(-1).repeat(1, 1, 3)
    for row, (picture, length) in enumerate(zip(pictures, lengths, strict=True)):
        if picture is not None:
            embeds[row, 1 : 1 + length] = 100.0 * picture + torch.arange(length).double().unsqueeze(-1)
    indices = column_indices(ids)
    return VLBatch(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        labels=labels,
        image_mask=ids == IMAGE,
        position_ids=indices[1],
        inputs_embeds=embeds,
        row_index=indices[0],
        token_index=indices[1],
        draw=draw,
    )


def seen(batch, contrast=None):
    """Row -> the picture it is shown, read off its first image token; None where it is shown none."""
    view = (contrast or ShufflePictures())(batch)
    shown = {}
    for place, row in enumerate(view.row_index[:, 0].tolist()):
        values = view.inputs_embeds[place, view.attention_mask[place].bool()][1:-2, 0].tolist()
        shown[row] = round(values[0] / 100) if values else None
    return shown


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("make", [adapter_for, GenericAdapter])
def test_delta_is_the_models_own_forward_with_the_pictures_exchanged(padding, make):
    model = build_llava(torch.float64)
    inputs = mixed_batch(images=(1, 0, 1, 0), padding=padding, dtype=torch.float64)
    adapter = make(model)
    looks = compare_passes(adapter, ShufflePictures(), adapter.prepare(inputs), ("logit", "logprob"))
    asked = {name: value for name, value in inputs.items() if name != "labels"}
    with torch.no_grad():
        right = model(**asked).logits[:, :-1]
        wrong = model(**{**asked, "pixel_values": inputs["pixel_values"].flip(0)}).logits[:, :-1]
    sees = (inputs["input_ids"] == model.config.image_token_id).cumsum(dim=1)[:, 1:] > 0
    labels = inputs["labels"][:, 1:]
    for score, values in (("logit", right - wrong), ("logprob", right.log_softmax(-1) - wrong.log_softmax(-1))):
        wanted = values.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        wanted = torch.where((labels != IGNORE_INDEX) & sees, wanted, 0)
        assert wanted[looks.valid].std() > 0.5
        torch.testing.assert_close(looks.delta[score], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_rows_of_other_lengths_take_tokens_spread_over_anothers(padding):
    model = build_llava(torch.float64)
    inputs = mixed_batch(images=(1, 0, 2), padding=padding, dtype=torch.float64)
    adapter = adapter_for(model)
    looks = compare_passes(adapter, ShufflePictures(), adapter.prepare(inputs))
    embeds = embedded(model, inputs)

    def second(row):
        mine, other = image_columns(inputs, row), image_columns(inputs, 2 - row)
        return {column: embeds[2 - row, other[k * len(other) // len(mine)]] for k, column in enumerate(mine)}

    assert {len(image_columns(inputs, row)) for row in (0, 2)} == {PICTURE_TOKENS, 2 * PICTURE_TOKENS}
    assert_delta(looks, delta_by_hand(model, inputs, second))


@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_row_alone_has_its_picture_taken_out_and_that_is_said_once(padding, caplog):
    model = build_llava(torch.float64)
    inputs = mixed_batch(images=(0, 1, 0), padding=padding, dtype=torch.float64)
    adapter, contrast = adapter_for(model), ShufflePictures()
    with caplog.at_level(logging.WARNING):
        looks = compare_passes(adapter, contrast, adapter.prepare(inputs))
        compare_passes(adapter, contrast, adapter.prepare(inputs))
    assert_delta(looks, delta_by_hand(model, inputs, lambda row: {}))
    (said,) = (record.message for record in caplog.records if "found no other picture" in record.message)
    assert "1 of 3 rows of a batch" in said and "taken out instead" in said


@pytest.mark.parametrize("draw", range(20))
def test_everybodys_picture_is_used_once_and_nobody_keeps_their_own(draw):
    shown = seen(batch_of([1, 2, None, 3, 4, 5], draw=draw))
    assert sorted(shown.values()) == [1, 2, 3, 4, 5]
    assert all(shown[row] != own for row, own in {0: 1, 1: 2, 3: 3, 4: 4, 5: 5}.items())


@pytest.mark.parametrize("draw", range(20))
def test_copies_of_a_picture_are_no_partners_while_there_are_others(draw):
    half = [7, 7, 7, 1, 2, 3]
    shown = seen(batch_of(half, draw=draw))
    assert Counter(shown.values()) == Counter(half)
    assert all(shown[row] != own for row, own in enumerate(half))
    most = [7, 7, 7, 7, 1]
    shown = seen(batch_of(most, draw=draw))
    assert [shown[row] for row in range(5)] == [1, 1, 1, 1, 7]


def test_rows_that_all_have_one_picture_are_like_rows_alone():
    assert seen(batch_of([7, 7, 7])) == {0: None, 1: None, 2: None}


def test_a_picture_and_its_mirror_image_are_two():
    batch = batch_of([0, 0])
    batch.inputs_embeds[1, 1:3] = batch.inputs_embeds[0, 1:3].flip(0)
    assert set(seen(batch).values()) == {0}
    view = ShufflePictures()(batch)
    assert view.inputs_embeds[0, 1:3, 0].tolist() == batch.inputs_embeds[1, 1:3, 0].tolist()


@pytest.mark.parametrize("draw", range(10))
def test_partners_have_as_many_image_tokens_where_there_are_any(draw):
    shown = seen(batch_of([1, 2, 3, 4, 5], lengths=[2, 2, 4, 4, 8], draw=draw))
    assert [shown[row] for row in range(4)] == [2, 1, 4, 3]
    assert shown[4] in {1, 2, 3, 4}


def test_the_draw_repeats_and_is_fresh_for_every_step_and_seed():
    pictures = list(range(1, 9))
    first = seen(batch_of(pictures, draw=3))
    assert first == seen(batch_of(pictures, draw=3))
    others = [seen(batch_of(pictures, draw=4)), seen(batch_of(pictures, draw=3), ShufflePictures(seed=1))]
    assert all(other != first for other in others)


def test_a_batch_of_text_alone_gives_a_view_without_rows():
    assert ShufflePictures()(batch_of([None, None])).row_index.numel() == 0


def test_the_batch_it_was_given_is_untouched():
    batch = batch_of([1, 2, None, 3], lengths=[2, 2, 1, 3])
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    ShufflePictures()(batch)
    for name, value in before.items():
        assert torch.equal(getattr(batch, name), value), name


def test_it_is_a_contrast_that_encodes_nothing_again():
    assert isinstance(ShufflePictures(), Contrast) and not ShufflePictures().reencodes


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed="):
        ShufflePictures(seed=seed)
