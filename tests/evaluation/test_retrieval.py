import json

import numpy as np
import pytest
import torch
from worlds.tiny_worlds import blind_pair, coloured_samples, seeing_pair, tiny_pair

from contralign.batch import IGNORE_INDEX
from contralign.data.batches.collator import VLCollator
from contralign.data.records.messages import Sample, Turn
from contralign.evaluation.evaluation_set import EvaluationSet
from contralign.evaluation.negative_captions import caption, negative_captions
from contralign.evaluation.registry import EVALUATIONS
from contralign.evaluation.retrieval import RULES, caption_scores, retrieval

SAMPLES = coloured_samples(18)


@pytest.fixture(scope="module")
def seeing():
    return seeing_pair(SAMPLES)


def log_likelihood(model, inputs, from_label=0):
    """Of the labels from a number on, by transformers' own forward."""
    with torch.no_grad():
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    labels = inputs["labels"][:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none"
    )[labels != IGNORE_INDEX]
    return -float(losses[from_label:].double().sum()), len(losses) - from_label


def without_image_tokens(inputs, image_token):
    keep = inputs["input_ids"][0] != image_token
    text = {name: inputs[name][:, keep] for name in ("input_ids", "attention_mask", "labels")}
    return text | {"position_ids": torch.arange(len(keep))[keep].unsqueeze(0)}


def answered(sample, text):
    return Sample(sample.id, (*sample.turns[:-1], Turn("assistant", text)), sample.pictures)


def test_scores_are_sums_over_the_caption_of_what_the_model_gives_its_tokens(seeing):
    model, collator = seeing
    samples = SAMPLES[:3]
    choices = [[caption(sample), "who knows", "red . not bad . i like it"] for sample in samples]
    found = caption_scores(model, collator, samples, choices, batch_size=4)
    for row, (sample, texts) in enumerate(zip(samples, choices, strict=True)):
        for column, text in enumerate(texts):
            inputs = collator([answered(sample, text)])
            total, tokens = log_likelihood(model, inputs)
            unseen, _ = log_likelihood(model, without_image_tokens(inputs, model.config.image_token_id))
            assert found["sum"][row, column] == pytest.approx(total, abs=1e-4)
            assert found["mean"][row, column] == pytest.approx(total / tokens, abs=1e-4)
            assert found["gain"][row, column] == pytest.approx(total - unseen, abs=1e-4)
    assert np.abs(found["gain"]).max() > 1


def test_hits_are_counted_as_a_straight_loop_counts_them():
    """An untrained model hits now and then: neither all nor nothing, and not the same by every rule."""
    model, collator = tiny_pair(SAMPLES)
    found = retrieval(model, collator, EvaluationSet(samples=SAMPLES), k=3, batch_size=7)
    hits = dict.fromkeys(RULES, 0)
    for sample, others in zip(SAMPLES, negative_captions(SAMPLES, SAMPLES, 2, "random", 0), strict=True):
        lines = []
        for text in (caption(sample), *others):
            inputs = collator([answered(sample, text)])
            total, tokens = log_likelihood(model, inputs)
            unseen, _ = log_likelihood(model, without_image_tokens(inputs, model.config.image_token_id))
            lines.append({"sum": total, "mean": total / tokens, "gain": total - unseen})
        for rule in RULES:
            hits[rule] += all(lines[0][rule] > other[rule] for other in lines[1:])
    assert {rule: found["accuracy"][rule]["value"] for rule in RULES} == {
        rule: pytest.approx(count / 18) for rule, count in hits.items()
    }
    assert 0 < hits["sum"] < 18
    assert len(found["misses"]) == 18 - hits["sum"]


def test_a_seeing_model_finds_the_caption_among_hard_ones(seeing):
    found = retrieval(*seeing, EvaluationSet(samples=SAMPLES), k=6, negatives="hard")
    assert (found["samples"], found["k"], found["chance"]) == (18, 6, pytest.approx(1 / 6))
    for rule in RULES:
        assert found["accuracy"][rule]["value"] == 1
        assert 0.8 < found["accuracy"][rule]["low"] < 1
        assert found["accuracy"][rule]["n"] == 18
    assert found["misses"] == []


def test_a_blind_model_finds_it_no_more_often_than_by_chance():
    found = retrieval(*blind_pair(SAMPLES), EvaluationSet(samples=SAMPLES), k=6, negatives="hard")
    assert found["accuracy"]["sum"]["low"] < 1 / 6
    assert len(found["misses"]) >= 12
    assert all(miss["chosen"] != miss["caption"] for miss in found["misses"])


def test_earlier_answers_are_context_and_count_nothing(seeing):
    model, collator = seeing
    first = SAMPLES[0]
    asked_again = (Turn("user", "say it"), Turn("assistant", "not bad . red ."))
    sample = Sample("two rounds", (*first.turns, *asked_again), first.pictures)
    found = caption_scores(model, collator, [sample], [["not bad . red ."]], batch_size=1)
    before = int((collator([first])["labels"] != IGNORE_INDEX).sum())
    total, tokens = log_likelihood(model, collator([sample]), from_label=before)
    assert found["sum"][0, 0] == pytest.approx(total, abs=1e-4)
    assert found["mean"][0, 0] == pytest.approx(total / tokens, abs=1e-4)


def test_nothing_is_cut_and_padding_changes_nothing(seeing):
    model, collator = seeing
    choices = [[caption(sample), "red"] for sample in SAMPLES[:4]]
    whole = caption_scores(model, collator, SAMPLES[:4], choices, batch_size=1)
    short = VLCollator(collator.processor, max_length=9, padding_side="left", on_bad="skip")
    cut = caption_scores(model, short, SAMPLES[:4], choices, batch_size=8)
    assert short.max_length == 9
    for rule in RULES:
        assert cut[rule] == pytest.approx(whole[rule], abs=1e-4)


def test_a_limit_asks_about_fewer_with_captions_of_all(seeing):
    found = retrieval(*seeing, EvaluationSet(samples=SAMPLES, seed=3), k=10, limit=4)
    assert found["samples"] == found["accuracy"]["sum"]["n"] == 4
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        (SAMPLES, {"k": 1}, "k=1: wanted 2 or more"),
        (SAMPLES, {"k": 19}, "18 different captions: wanted more than 18"),
        ([], {}, "no samples"),
        ([Sample("t", (Turn("user", "hi"), Turn("assistant", "ho")))], {}, "'t' has no picture"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(seeing, samples, settings, message):
    with pytest.raises(ValueError, match=message):
        retrieval(*seeing, EvaluationSet(samples=samples), **settings)


def test_retrieval_is_a_registered_evaluation():
    assert EVALUATIONS["retrieval"] is retrieval
