import threading

import pytest
import torch
from worlds.small_models import build_llava
from worlds.small_scores import mixed_samples, spread_pair
from worlds.tiny_worlds import coloured_samples

from contralign import reading
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.patches import MaskPatches
from contralign.contrast.shuffle import ShufflePictures
from contralign.core.passes import compare_passes
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.models.adapters.adapter import UnsupportedModel
from contralign.models.adapters.llava import LlavaAdapter
from contralign.models.adapters.registry import adapter_for
from contralign.reading import SampleReader, adapt_contrast, contrast_settings, default_contrast, drop_is_proven

SAMPLES = mixed_samples(5)


@pytest.fixture(scope="module")
def pair():
    model, collator = spread_pair(SAMPLES)
    return model.double(), collator


def test_batches_are_those_of_the_passes_alone_and_come_in_order(pair):
    model, collator = pair
    adapter, seen = adapter_for(model), []
    for encoded, looks in SampleReader(model, collator).read_batches(SAMPLES, 4, "reading"):
        alone = compare_passes(adapter, DropImage(), adapter.prepare(encoded.inputs), ("logit", "logprob"))
        for score in ("logit", "logprob"):
            torch.testing.assert_close(looks.delta[score], alone.delta[score])
        assert not looks.nll.requires_grad
        seen += [sample.id for sample in encoded.samples]
    assert seen == [sample.id for sample in SAMPLES]


def test_the_next_batch_is_collated_while_one_is_looked_at(pair, monkeypatch):
    model, collator = pair
    begun = [threading.Event() for _ in range(3)]
    original = VLCollator.encode_batch

    def noted(self, samples):
        begun[SAMPLES.index(samples[0])].set()
        return original(self, samples)

    monkeypatch.setattr(VLCollator, "encode_batch", noted)
    collated = SampleReader(model, collator).collated([[sample] for sample in SAMPLES[:3]])
    next(collated)
    assert begun[1].wait(timeout=60)
    assert len(list(collated)) == 2


def test_a_bad_sample_ends_the_reading_where_the_collator_says_so(pair):
    model, collator = pair
    short = VLCollator(collator.processor, max_length=4)
    with pytest.raises(BadRecord, match="c0"):
        list(SampleReader(model, short).read_batches(SAMPLES, 2, "reading"))


def test_the_mode_of_every_module_is_put_back(pair):
    model, collator = pair
    model.train()
    model.model.vision_tower.eval()
    SampleReader(model, collator)(SAMPLES[:2])
    assert model.training
    assert not model.model.vision_tower.training
    model.eval()


def test_where_dropping_is_proven_the_cheap_contrast_is_taken(pair, monkeypatch):
    model, _ = pair
    assert default_contrast(adapter_for(model)) == DropImage()
    monkeypatch.setattr(LlavaAdapter, "proven", False)
    assert default_contrast(adapter_for(model)) == DropImage()
    monkeypatch.setattr("contralign.models.adapters.adapter.VERIFIED_MODELS", frozenset())
    assert default_contrast(adapter_for(model)) == MaskImage()


def test_a_degraded_picture_is_encoded_again(pair):
    model, collator = pair
    keeping = VLCollator(collator.processor, keep_pictures=True)
    _, blurred = SampleReader(model, keeping, BlurPicture(sigma=10.0))(SAMPLES[:2])
    _, covered = SampleReader(model, keeping, MaskPatches(ratio=1.0))(SAMPLES[:2])
    assert blurred.delta["logit"].abs().max() < 1e-3  # a picture of one colour stays what it is
    assert covered.delta["logit"].abs().max() > 0.1


def test_a_contrast_that_degrades_pictures_needs_them_kept(pair):
    model, collator = pair
    with pytest.raises(ValueError, match="keep_pictures=True"):
        SampleReader(model, collator, BlurPicture(sigma=1.0))


def test_an_adapter_that_cannot_vouch_for_drop_is_proven_on_the_first_batch(pair, monkeypatch):
    model, collator = pair
    monkeypatch.setattr(LlavaAdapter, "proven", False)
    SampleReader(model, collator, DropImage())(SAMPLES[:2])

    monkeypatch.setattr(reading, "MaskImage", lambda: lambda batch: batch)  # hides nothing: not what "drop" says
    with pytest.raises(UnsupportedModel, match="differs from that of 'mask'"):
        SampleReader(model, collator, DropImage())(SAMPLES[:2])


def test_where_nobody_asked_for_drop_a_failed_proof_goes_on_with_mask(pair, monkeypatch, caplog):
    model, collator = pair
    _, sure = SampleReader(model, collator)(SAMPLES[:2])
    monkeypatch.setattr(LlavaAdapter, "proven", False)

    def refuse(adapter, batch):
        raise UnsupportedModel("they differ")

    monkeypatch.setattr(reading, "drop_is_proven", refuse)
    reader = SampleReader(model, collator)
    assert reader.contrast.name == "drop"
    _, hidden = reader(SAMPLES[:2])
    assert reader.contrast == MaskImage()
    assert "they differ. Reading goes on with 'mask'" in caplog.text
    torch.testing.assert_close(hidden.delta["logit"], sure.delta["logit"], atol=1e-4, rtol=0)
    with pytest.raises(UnsupportedModel):
        SampleReader(model, collator, DropImage())(SAMPLES[:2])


def test_a_right_model_is_proven_on_the_first_batch_with_a_picture_and_not_before(pair):
    model, collator = pair
    adapter = adapter_for(model)
    text = [sample for sample in SAMPLES if not sample.pictures]
    with torch.no_grad():
        assert not drop_is_proven(adapter, adapter.prepare(collator(text)))
        assert drop_is_proven(adapter, adapter.prepare(collator(coloured_samples(4))))


def test_a_contrast_the_model_cannot_have_is_refused(pair, monkeypatch):
    _, collator = pair
    monkeypatch.setattr(LlavaAdapter, "contrasts", frozenset({"drop"}))
    with pytest.raises(UnsupportedModel, match="mask"):
        SampleReader(build_llava(), collator, MaskImage())


def test_a_contrast_says_what_it_was_set_to():
    assert contrast_settings(DropImage()) == {"contrast": "drop", "contrast_settings": {}}
    assert contrast_settings(BlurPicture(sigma=2.0))["contrast_settings"] == {"sigma": 2.0}
    assert contrast_settings(MaskPatches())["contrast_settings"].keys() == {"ratio", "fill", "seed", "columns", "rows"}
    assert contrast_settings(DropImage(pack=True, prompt="red"))["contrast_settings"] == {"prompt": "red"}
    assert contrast_settings(MeanPicture(tokens=2))["contrast_settings"] == {"tokens": 2}
    assert contrast_settings(ShufflePictures()) == {"contrast": "shuffle", "contrast_settings": {"seed": 0}}


def test_a_prompt_is_cut_into_the_models_own_tokens(pair):
    model, collator = pair
    adapter = adapter_for(model)
    words, embeddings = adapt_contrast(DropImage(prompt="red"), adapter, collator.tokenizer).words()
    assert collator.tokenizer.decode(words) == "red"
    assert torch.equal(embeddings, model.get_input_embeddings()(words))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("<image>", "holds the model's image token"), ("an <image>", "holds the model's image token")],
)
def test_a_prompt_that_is_a_picture_is_refused(pair, prompt, message):
    model, collator = pair
    with pytest.raises(ValueError, match=message):
        adapt_contrast(DropImage(prompt=prompt), adapter_for(model), collator.tokenizer)


def deltas(reader, samples, batch_size):
    return {
        sample.id: looks.delta["logit"][row][looks.valid[row]]
        for encoded, looks in reader.read_batches(samples, batch_size, "reading")
        for row, sample in enumerate(encoded.samples)
    }


@pytest.mark.parametrize("contrast", [MeanPicture, lambda: DropImage(prompt="red")])
def test_neither_the_size_of_batches_nor_their_order_changes_a_delta(pair, contrast):
    model, collator = pair
    first = deltas(SampleReader(model, collator, contrast()), SAMPLES, 4)
    other = deltas(SampleReader(model, collator, contrast()), SAMPLES, 3)
    reader = SampleReader(model, collator, contrast())
    reader.fix_mean(SAMPLES)
    turned = deltas(reader, SAMPLES[::-1], 2)
    assert first["c0"].std() > 0.5
    for name, delta in first.items():
        torch.testing.assert_close(other[name], delta, rtol=0, atol=1e-3)
        torch.testing.assert_close(turned[name], delta, rtol=0, atol=1e-3)


def test_the_mean_is_that_of_the_samples_and_stays(pair):
    model, collator = pair
    reader = SampleReader(model, collator, MeanPicture())
    reader.fix_mean(SAMPLES)
    with torch.no_grad():
        batch = adapter_for(model).prepare(collator(SAMPLES))
    torch.testing.assert_close(reader.contrast.running.value, batch.inputs_embeds[batch.image_mask].mean(dim=0))
    mean = reader.contrast.running.value.clone()
    reader.fix_mean(SAMPLES[:1])
    reader(SAMPLES[:2])
    assert torch.equal(reader.contrast.running.value, mean)


def test_settling_counts_no_skipped_sample_twice(pair):
    model, collator = pair
    skipping = VLCollator(collator.processor, on_bad="skip")
    SampleReader(model, skipping, MeanPicture()).fix_mean(SAMPLES)
    assert not skipping.skipped


def test_shuffled_pictures_need_batches_of_two(pair):
    model, collator = pair
    reader = SampleReader(model, collator, ShufflePictures())
    with pytest.raises(ValueError, match="batch_size=1: rows exchange pictures"):
        next(reader.read_batches(SAMPLES, 1, "reading"))
    assert len(list(reader.read_batches(SAMPLES[:5], 4, "reading"))) == 2, "a last batch of one is no reason to stop"
