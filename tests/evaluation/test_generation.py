from dataclasses import replace

import pytest
from worlds.tiny_worlds import coloured_samples, seeing_pair

from contralign.data.records.messages import Sample, Turn
from contralign.evaluation.generation import generate

SAMPLES = coloured_samples(12)
SHORT = [replace(sample, turns=(sample.turns[0], Turn("assistant", "x")), spans=()) for sample in SAMPLES]


@pytest.fixture(scope="module")
def seeing():
    return seeing_pair(SAMPLES)


def test_names_the_colour_that_it_sees_and_stops(seeing):
    for said, sample in zip(generate(*seeing, SHORT), SAMPLES, strict=True):
        assert said.endswith(sample.turns[1].text.split(". ", 1)[1])
        assert said.count(".") == 2


def test_rows_of_unequal_length_say_what_they_say_alone(seeing):
    longer = replace(
        SAMPLES[0], turns=(Turn("user", SAMPLES[0].turns[0].text + " who knows not bad"), SAMPLES[0].turns[1])
    )
    text = Sample("t", (Turn("user", "say it"), Turn("assistant", "x")))
    mixed = [SAMPLES[1], text, longer, *SAMPLES[2:5]]
    alone = [generate(*seeing, [sample], max_new_tokens=12)[0] for sample in mixed]
    assert generate(*seeing, mixed, max_new_tokens=12, batch_size=4) == alone


def test_earlier_turns_are_read_and_the_last_answer_is_not(seeing):
    asked = replace(SAMPLES[0], spans=(), turns=(*SAMPLES[0].turns, Turn("user", "say it"), Turn("assistant", "x")))
    other = replace(asked, turns=(*asked.turns[:3], Turn("assistant", "quite another answer")))
    assert generate(*seeing, [asked]) == generate(*seeing, [other])


def test_no_more_tokens_than_asked_for(seeing):
    _, collator = seeing
    said = generate(*seeing, SHORT[:3], max_new_tokens=2)
    assert all(len(collator.tokenizer(text)["input_ids"]) <= 3 for text in said)


def test_refuses_a_limit_of_nothing(seeing):
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        generate(*seeing, SHORT, max_new_tokens=0)
