"""The LLaVA adapter: what both passes read, and what it refuses."""

import pytest
import torch
from worlds.same_numbers import assert_near
from worlds.small_models import IMAGE_TOKEN, build_llava, mixed_batch

from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.core.passes import compare_passes
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.registry import adapter_for


@pytest.mark.parametrize("padding", ["right", "left"])
def test_the_pass_with_the_picture_is_the_models_own_forward(padding):
    model = build_llava(torch.float64)
    adapter = adapter_for(model)
    inputs = mixed_batch(padding=padding, dtype=torch.float64)
    batch = adapter.prepare(inputs)
    ours = adapter.logits(adapter.hidden(batch).flatten(0, 1)).view(*inputs["input_ids"].shape, -1)
    theirs = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    assert_near(ours, theirs)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_dropping_image_tokens_equals_masking_them(padding, dtype, tolerance):
    adapter = adapter_for(build_llava(dtype))
    batch = adapter.prepare(mixed_batch(images=(1, 0, 2, 1, 2), padding=padding, dtype=dtype))
    dropped = compare_passes(adapter, DropImage(), batch, ("logit", "logprob"))
    masked = compare_passes(adapter, MaskImage(), batch, ("logit", "logprob"))
    for score in ("logit", "logprob"):
        seen = dropped.delta[score][dropped.valid & dropped.has_image.unsqueeze(1)]
        assert seen.std() > 0.5
        assert (dropped.delta[score] - masked.delta[score])[dropped.valid].abs().max() <= tolerance


def test_delta_equals_a_forward_written_by_hand_row_by_row():
    model = build_llava(torch.float64)
    inputs = mixed_batch(images=(1, 2), dtype=torch.float64)
    adapter = adapter_for(model)
    looks = compare_passes(adapter, DropImage(), adapter.prepare(inputs))
    full = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    for row in range(2):
        ids, labels = inputs["input_ids"][row], inputs["labels"][row]
        kept = [t for t in range(len(ids)) if ids[t] != IMAGE_TOKEN and inputs["attention_mask"][row, t]]
        without = model(
            input_ids=ids[kept][None], position_ids=torch.tensor(kept)[None], attention_mask=torch.ones(1, len(kept))
        ).logits[0]
        for place, t in enumerate(kept):
            if labels[t] != -100:
                wanted = full[row, t - 1, labels[t]] - without[place - 1, labels[t]]
                torch.testing.assert_close(looks.delta["logit"][row, t - 1], wanted, rtol=0, atol=1e-9)


def test_padding_side_and_order_of_rows_change_no_delta():
    adapter = adapter_for(build_llava(torch.float64))
    right = mixed_batch(dtype=torch.float64)
    left = mixed_batch(dtype=torch.float64, padding="left")
    deltas = []
    for inputs in (right, left):
        looks = compare_passes(adapter, DropImage(), adapter.prepare(inputs))
        deltas.append(looks.delta["logit"][looks.valid])
    # LLaMA counts positions from the padding on; rotary positions are relative, up to the float32 of its tables.
    torch.testing.assert_close(deltas[0], deltas[1], rtol=0, atol=1e-4)


def test_a_batch_without_any_picture_has_no_delta_and_no_second_pass():
    adapter = adapter_for(build_llava())
    batch = adapter.prepare(mixed_batch(images=(0, 0)))
    assert DropImage()(batch).input_ids.shape[0] == 0
    looks = compare_passes(adapter, DropImage(), batch)
    assert looks.valid.any()
    assert not looks.delta["logit"].any()
    assert not compare_passes(adapter, MaskImage(), batch).delta["logit"].any()


def test_labels_left_on_image_tokens_are_ignored():
    adapter = adapter_for(build_llava())
    inputs = mixed_batch()
    inputs["labels"] = torch.where(inputs["input_ids"] == IMAGE_TOKEN, inputs["input_ids"], inputs["labels"])
    batch = adapter.prepare(inputs)
    assert not (batch.labels == IMAGE_TOKEN).any()
    assert (inputs["labels"] == IMAGE_TOKEN).any(), "the caller's labels are not edited"


def test_the_first_word_of_a_plain_caption_is_read_at_the_last_text_token():
    """Its neighbour is an image token, whose residual stream still holds the picture (spec 1.3, row 9)."""
    adapter = adapter_for(build_llava(torch.float64))
    ids = torch.tensor([[1, *[IMAGE_TOKEN] * 4, 5, 6, 7]])
    labels = torch.tensor([[-100] * 5 + [5, 6, 7]])
    batch = adapter.prepare({"input_ids": ids, "labels": labels, "pixel_values": torch.randn(1, 3, 28, 28).double()})
    for contrast in (DropImage(), MaskImage()):
        with_picture = compare_passes(adapter, contrast, batch)
        text = adapter.model(input_ids=torch.tensor([[1]])).logits[0, 0, 5]
        full = adapter.logits(adapter.hidden(batch)[0])[4, 5]
        torch.testing.assert_close(with_picture.delta["logit"][0, 4], full - text)


def test_a_label_with_no_text_before_it_has_delta_zero():
    adapter = adapter_for(build_llava())
    ids = torch.tensor([[*[IMAGE_TOKEN] * 4, 5, 6]])
    labels = torch.tensor([[-100] * 4 + [5, 6]])
    batch = adapter.prepare({"input_ids": ids, "labels": labels, "pixel_values": torch.randn(1, 3, 28, 28)})
    looks = compare_passes(adapter, DropImage(), batch)
    assert looks.delta["logit"][0, 3] == 0
    assert looks.delta["logit"][0, 4] != 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pixel_values": None}, "no pixel_values"),
        ({"pixel_values": torch.randn(1, 3, 28, 28)}, "16 image tokens in the batch .* but 4 image features"),
        ({"labels": None}, "wanted 'labels'"),
        ({"labels": torch.zeros(4, 2, dtype=torch.long)}, "wanted one shape"),
        ({"attention_mask": torch.ones(4, 2)}, "wanted one shape"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        adapter_for(build_llava()).prepare(mixed_batch() | change)


def test_a_sliding_window_shorter_than_the_rows_refuses_what_takes_tokens_out():
    from transformers import LlavaConfig, LlavaForConditionalGeneration, MistralConfig

    base = build_llava().config
    text = MistralConfig(**{**base.text_config.to_dict(), "sliding_window": 8, "model_type": "mistral"})
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=base.vision_config, text_config=text))
    adapter = adapter_for(model)
    for name in ("mask", "patches", "blur"):
        adapter.check_contrast(name, 9)
    for name in ("drop", "mean", "shuffle"):
        adapter.check_contrast(name, 8)
        with pytest.raises(UnsupportedModel, match=f"contrast='{name}' on rows of 9 tokens with a sliding window of 8"):
            adapter.check_contrast(name, 9)
