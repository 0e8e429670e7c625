import json
from dataclasses import replace

import pytest
from worlds.tiny_worlds import COLOURS, coloured_samples, seeing_pair

from contralign.data.records.messages import IMAGE, Sample, Span, Turn
from contralign.evaluation.answers import answer_accuracy, question_type
from contralign.evaluation.evaluation_set import EvaluationSet


def asked(sample, question, answer, source=""):
    turns = (Turn("user", f"{IMAGE}\n{question}"), Turn("assistant", answer))
    return replace(sample, turns=turns, spans=(Span(1, 0, len(answer), "visual"),), source=source)


PICTURES = coloured_samples(6)
TRAIN = [asked(sample, "what color is it?", colour) for sample, colour in zip(PICTURES, COLOURS, strict=True)]


@pytest.fixture(scope="module")
def seeing():
    return seeing_pair(TRAIN, steps=120)


def test_right_answers_count_and_wrong_ones_are_named(seeing):
    changed = [*TRAIN[:4], *(asked(sample, "what color is it?", "pink") for sample in TRAIN[4:])]
    found = answer_accuracy(*seeing, EvaluationSet(samples=changed))
    assert found["accuracy"]["value"] == pytest.approx(4 / 6)
    assert found["accuracy"]["n"] == found["samples"] == 6
    assert [(miss["id"], miss["reference"], miss["answer"]) for miss in found["misses"]] == [
        ("c4", "pink", "black"),
        ("c5", "pink", "orange"),
    ]


def test_baselines_come_from_the_training_set(seeing):
    train = [asked(PICTURES[0], "is it?", answer) for answer in ("red", "red", "blue")]
    found = answer_accuracy(*seeing, EvaluationSet(samples=TRAIN, train=train))
    assert found["majority"]["answer"] == "red"
    assert found["majority"]["value"] == pytest.approx(1 / 6)
    assert found["type_majority"] is None


def test_without_a_training_set_there_are_no_baselines(seeing):
    found = answer_accuracy(*seeing, EvaluationSet(samples=TRAIN))
    assert (found["majority"], found["type_majority"], found["types"]) == (None, None, {})


def test_easy_vqa_questions_have_types(seeing):
    questions = [
        asked(PICTURES[0], "what color is the circle?", "red", "easy_vqa"),
        asked(PICTURES[1], "what color is the triangle?", "green", "easy_vqa"),
        asked(PICTURES[2], "is there a blue shape?", "yes", "easy_vqa"),
    ]
    found = answer_accuracy(*seeing, EvaluationSet(samples=questions, train=questions))
    assert {kind: numbers["accuracy"]["n"] for kind, numbers in found["types"].items()} == {
        "is there a COLOUR shape?": 1,
        "what color is the SHAPE?": 2,
    }
    assert found["types"]["what color is the SHAPE?"]["majority"]["value"] == 0.5
    assert found["type_majority"]["value"] == pytest.approx(2 / 3)
    json.dumps(found, allow_nan=False)


def test_other_sources_have_no_types():
    assert question_type(TRAIN[0]) == ""


def test_a_limit_draws_by_the_seed(seeing):
    chosen = [
        {miss["id"] for miss in answer_accuracy(*seeing, EvaluationSet(samples=wrong, seed=seed), limit=3)["misses"]}
        for seed in (0, 0, 1, 2)
        for wrong in [[asked(sample, "what color is it?", "pink") for sample in TRAIN]]
    ]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3
    assert chosen[0] != chosen[2] or chosen[0] != chosen[3]


def test_refuses_nothing_and_samples_without_an_answer(seeing):
    with pytest.raises(ValueError, match="at least one"):
        answer_accuracy(*seeing, EvaluationSet(samples=[]))
    prompt = Sample("open", (Turn("user", "say it"),))
    with pytest.raises(ValueError, match="'open' ends without an answer"):
        answer_accuracy(*seeing, EvaluationSet(samples=[prompt]))
