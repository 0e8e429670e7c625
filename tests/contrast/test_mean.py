"""A few tokens that hold the mean picture: against a construction by hand, and how the mean moves."""

from dataclasses import replace

import pytest
import torch
from worlds.by_hand import assert_delta, delta_by_hand, embedded, image_columns
from worlds.small_models import PICTURE_TOKENS, build_llava, mixed_batch

from contralign.contrast.base import Contrast
from contralign.contrast.mean import MeanPicture, RunningMean
from contralign.core.passes import compare_passes
from contralign.models.adapters.registry import adapter_for


def mean_of(model, inputs):
    embeds = embedded(model, inputs)
    rows = range(len(embeds))
    return torch.stack([embeds[row, column] for row in rows for column in image_columns(inputs, row)]).mean(dim=0)


def last_of_each_picture(inputs, row, tokens):
    """Pictures of these batches never touch, so each takes PICTURE_TOKENS columns in a row."""
    columns = image_columns(inputs, row)
    pictures = [columns[start : start + PICTURE_TOKENS] for start in range(0, len(columns), PICTURE_TOKENS)]
    return [column for picture in pictures for column in picture[-tokens:]]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 4, 9])
def test_delta_is_that_of_a_few_tokens_of_the_mean_picture(padding, pack, tokens):
    model = build_llava(torch.float64)
    adapter, inputs = adapter_for(model), mixed_batch(images=(1, 0, 2, 1, 2), padding=padding, dtype=torch.float64)
    looks = compare_passes(adapter, MeanPicture(tokens=tokens, pack=pack), adapter.prepare(inputs))
    mean = mean_of(model, inputs)
    wanted = delta_by_hand(
        model, inputs, lambda row: dict.fromkeys(last_of_each_picture(inputs, row, min(tokens, PICTURE_TOKENS)), mean)
    )
    assert_delta(looks, wanted)
    assert not looks.delta["logit"][1].any(), "a row of text has no Δ"


def test_it_costs_the_text_and_a_few_tokens():
    adapter = adapter_for(build_llava())
    batch = adapter.prepare(mixed_batch(images=(1, 1)))
    one, two = MeanPicture(tokens=1)(batch), MeanPicture(tokens=2)(batch)
    assert two.attention_mask.sum() - one.attention_mask.sum() == 2
    up_to_last_label = [int((labels != -100).nonzero().max()) + 1 for labels in batch.labels]
    assert one.attention_mask.sum() == sum(up_to_last_label) - 2 * PICTURE_TOKENS + 2


def test_the_first_batch_starts_the_mean_and_only_observing_moves_it():
    adapter, contrast = adapter_for(build_llava(torch.float64)), MeanPicture()
    first, second = (adapter.prepare(mixed_batch(seed=seed, dtype=torch.float64)) for seed in (0, 1))
    text = adapter.prepare(mixed_batch(images=(0, 0), dtype=torch.float64))
    contrast(text)
    assert contrast.running.value is None
    contrast(first)
    start = first.inputs_embeds[first.image_mask].mean(dim=0)
    torch.testing.assert_close(contrast.running.value, start)
    contrast(second)
    torch.testing.assert_close(contrast.running.value, start)
    contrast.observe(second)
    both = (start + second.inputs_embeds[second.image_mask].mean(dim=0)) / 2
    torch.testing.assert_close(contrast.running.value, both)
    contrast.observe(text)
    torch.testing.assert_close(contrast.running.value, both)


def test_the_mean_is_plain_at_first_and_exponential_later():
    mean = RunningMean(rate=0.25)
    values = [float(number**2) for number in range(8)]
    expected = values[0]
    for number, value in enumerate(values):
        mean.update(torch.full((3, 2), value))
        expected = sum(values[: number + 1]) / (number + 1) if number < 4 else 0.75 * expected + 0.25 * value
        torch.testing.assert_close(mean.value, torch.full((2,), expected))


def test_half_precision_adds_up_in_float32():
    mean = RunningMean()
    for _ in range(50):
        mean.update(torch.full((2, 1), 1.0, dtype=torch.bfloat16))
    mean.update(torch.full((2, 1), 1.5, dtype=torch.bfloat16))
    assert mean.value.dtype == torch.float32
    assert mean.value.item() == pytest.approx(1 + 0.5 / 51)


def test_no_gradient_reaches_the_mean_and_the_batch_is_untouched():
    adapter = adapter_for(build_llava())
    batch = adapter.prepare(mixed_batch())
    before = batch.inputs_embeds.clone()
    contrast = MeanPicture()
    with torch.no_grad():
        contrast(batch)
    assert not contrast.running.value.requires_grad
    assert torch.equal(batch.inputs_embeds, before)


def test_copies_share_one_mean_and_contrasts_do_not():
    contrast = MeanPicture()
    replace(contrast, pack=True).running.update(torch.ones(1, 2))
    assert contrast.running.batches == 1
    assert MeanPicture().running.batches == 0
    assert isinstance(contrast, Contrast) and not contrast.reencodes


@pytest.mark.parametrize("tokens", [0, -1, 1.0, True, "2"])
def test_a_bad_number_of_tokens_is_refused(tokens):
    with pytest.raises(ValueError, match="tokens="):
        MeanPicture(tokens=tokens)
