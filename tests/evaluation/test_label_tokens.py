import numpy as np
import pytest
import torch
from worlds.tiny_worlds import coloured, coloured_samples, seeing_pair, tiny_pair

from contralign.batch import IGNORE_INDEX
from contralign.contrast.blur import BlurPicture
from contralign.contrast.mask import MaskImage
from contralign.data.batches.collator import VLCollator
from contralign.evaluation.label_tokens import read_label_tokens, read_right_and_wrong
from contralign.models.adapters.llava import LlavaAdapter
from contralign.models.adapters.registry import adapter_for
from contralign.reading import default_contrast


@pytest.fixture(scope="module")
def world():
    samples = [*coloured_samples(5), coloured("liar", "red", 0, told="blue")]
    return samples, *seeing_pair(samples, steps=100)


def loss_of_each_label(model, inputs):
    """From transformers' own forward, one sample, no picture taken out by any code of ours."""
    with torch.no_grad():
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    labels = inputs["labels"][:, 1:]
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )[labels != IGNORE_INDEX]


def test_losses_equal_transformers_own_forward(world):
    samples, model, collator = world
    tokens = read_label_tokens(model, collator, samples, batch_size=4)
    expected = torch.cat([loss_of_each_label(model, collator([sample])) for sample in samples])
    assert tokens.nll == pytest.approx(expected.double().numpy(), abs=2e-5)


def test_without_is_the_text_alone_at_its_old_positions(world):
    samples, model, collator = world
    tokens = read_label_tokens(model, collator, samples, batch_size=4)
    expected = []
    for sample in samples:
        batch = collator([sample])
        keep = batch["input_ids"][0] != model.config.image_token_id
        text = {name: batch[name][:, keep] for name in ("input_ids", "attention_mask", "labels")}
        positions = torch.arange(len(keep))[keep].unsqueeze(0)
        expected.append(loss_of_each_label(model, text | {"position_ids": positions}))
    assert tokens.nll_without == pytest.approx(torch.cat(expected).double().numpy(), abs=2e-5)
    assert np.abs(tokens.nll - tokens.nll_without).max() > 0.1


def test_delta_of_the_log_probability_is_the_difference_of_losses(world):
    samples, model, collator = world
    tokens = read_label_tokens(model, collator, samples)
    assert tokens.delta["logprob"] == pytest.approx(tokens.nll_without - tokens.nll)


def test_every_token_has_its_sample_and_kind(world):
    samples, model, collator = world
    tokens = read_label_tokens(model, collator, samples, batch_size=4)
    batch = collator(samples)
    labels = batch["labels"][:, 1:]
    rows, _ = (labels != IGNORE_INDEX).nonzero(as_tuple=True)
    assert tokens.ids == tuple(sample.id for sample in samples)
    assert tokens.sample.tolist() == rows.tolist()
    spoken = [collator.tokenizer.decode(label) for label in labels[labels != IGNORE_INDEX]]
    told = {kind: "".join(np.array(spoken)[tokens.kind == kind]).split() for kind in ("visual", "contradictory")}
    assert told["visual"] == ["red", "green", "blue", "white", "black"]
    assert told["contradictory"] == ["blue"]
    assert {word for word, kind in zip(spoken, tokens.kind, strict=True) if kind == ""} >= {"</s>"}


def test_batching_changes_nothing(world):
    samples, model, collator = world
    one, many = (read_label_tokens(model, collator, samples, batch_size=size) for size in (1, 6))
    for score in ("logit", "logprob"):
        assert one.delta[score] == pytest.approx(many.delta[score], abs=1e-4)
        assert one.caption_means(score) == pytest.approx(many.caption_means(score), abs=1e-4)


def test_weights_are_clamped_and_vary(world):
    samples, model, collator = world
    weight = read_label_tokens(model, collator, samples).weight["logprob"]
    assert weight.min() >= 1
    assert weight.max() <= 5
    assert weight.std() > 0


def test_the_model_keeps_its_mode(world):
    samples, model, collator = world
    model.train()
    read_label_tokens(model, collator, samples[:2])
    assert all(module.training for module in model.modules())
    model.eval()


def test_where_dropping_is_not_proven_image_tokens_are_hidden_and_the_numbers_agree(world, monkeypatch):
    samples, model, collator = world
    dropped = read_label_tokens(model, collator, samples)
    monkeypatch.setattr(LlavaAdapter, "proven", False)
    monkeypatch.setattr("contralign.models.adapters.adapter.VERIFIED_MODELS", frozenset())
    assert isinstance(default_contrast(adapter_for(model)), MaskImage)
    hidden = read_label_tokens(model, collator, samples)
    assert hidden.delta["logit"] == pytest.approx(dropped.delta["logit"], abs=1e-4)


def test_refuses_to_read_nothing():
    model, collator = tiny_pair(coloured_samples(2))
    with pytest.raises(ValueError, match="at least one"):
        read_label_tokens(model, collator, [])


def test_the_contrast_that_is_given_is_the_one_that_is_taken(world):
    samples, model, collator = world
    keeping = VLCollator(collator.processor, keep_pictures=True)
    blurred = read_label_tokens(model, keeping, samples, contrast=BlurPicture(sigma=10.0))
    assert blurred.nll_without == pytest.approx(blurred.nll, abs=1e-3)  # a picture of one colour stays what it is
    assert blurred.weight["logprob"] == pytest.approx(1)


def test_means_of_captions_are_over_their_tokens(world):
    samples, model, collator = world
    tokens = read_label_tokens(model, collator, samples)
    own = tokens.sample == 2
    assert tokens.caption_means("logit")[2] == pytest.approx(tokens.delta["logit"][own].mean())
    assert tokens.caption_means("logit", of_weights=True)[2] == pytest.approx(tokens.weight["logit"][own].mean())


def test_captions_that_do_not_line_up_are_refused(world):
    samples, model, collator = world
    with pytest.raises(ValueError, match="other label tokens than with their own"):
        read_right_and_wrong(model, collator, samples, samples[:3])
