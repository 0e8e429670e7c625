"""What a record says is used, refused by name, or counted and said; nothing is dropped in silence."""

import json
import logging

import numpy as np
import pytest
from datasets import Dataset
from worlds.small_scores import spread_pair
from worlds.tiny_worlds import coloured_samples

from contralign.batch import IGNORE_INDEX
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.formats.record_keys import REFUSED
from contralign.data.records.mixture import load_samples
from contralign.data.streams.streaming import StreamedSamples
from contralign.data.text.loss_mask import encode

TURNS = [{"from": "human", "value": "what is it?"}, {"from": "gpt", "value": "a red box"}]
MESSAGES = [{"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "a red box"}]
FORMS = {"conversations": TURNS, "messages": MESSAGES}


@pytest.fixture(scope="module")
def processor():
    return spread_pair(coloured_samples(4))[1].processor


def first(record):
    return load_samples([record]).samples[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_system_field_is_the_system_turn(form):
    sample = first({form: FORMS[form], "system": "You are a pirate."})
    assert [turn.role for turn in sample.turns] == ["system", "user", "assistant"]
    assert sample.turns[0].text == "You are a pirate."


def test_a_system_turn_of_llava_is_one_and_reaches_the_prompt(processor):
    sample = first({"conversations": [{"from": "system", "value": "You are a pirate."}, *TURNS]})
    words = processor.tokenizer.decode(encode(sample, "vicuna_v1", processor).input_ids)
    assert "pirate" in words and "curious user" not in words


@pytest.mark.parametrize("form", FORMS)
def test_two_system_texts_or_one_that_is_no_text_are_refused(form):
    turn = {"from": "system", "value": "x"} if form == "conversations" else {"role": "system", "content": "x"}
    with pytest.raises(BadRecord, match="keep one"):
        first({form: [turn, *FORMS[form]], "system": "y"})
    with pytest.raises(BadRecord, match="'system' of type list"):
        first({form: FORMS[form], "system": ["y"]})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_that_change_what_is_learnt_are_refused_by_name(key, form, tmp_path):
    record = {form: FORMS[form], key: ["x.mp4"]}
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    for source in ([record], tmp_path / "x.jsonl", Dataset.from_list([record])):
        with pytest.raises(BadRecord, match=f"the record has '{key}'.*unknown_key"):
            load_samples(source)
    with pytest.raises(BadRecord, match="unknown_key"):
        list(StreamedSamples(tmp_path / "x.jsonl", passes=1))


@pytest.mark.parametrize("key", ["tool_calls", "reasoning_content", "function_call", "video"])
def test_so_are_those_of_a_turn(key):
    for form, turns in FORMS.items():
        with pytest.raises(BadRecord, match=f"{'turn' if form == 'conversations' else 'message'} 1 has '{key}'"):
            first({form: [turns[0], {**turns[1], key: "x"}]})


@pytest.mark.parametrize("empty", [None, "", [], {}, False])
def test_an_empty_value_says_nothing(empty):
    assert first({"messages": MESSAGES, "video": empty, "tools": empty, "system": None}).pictures == ()


def test_bad_ones_are_left_out_under_skip():
    found = load_samples([{"messages": MESSAGES}, {"messages": MESSAGES, "video": "x.mp4"}], on_bad="skip")
    assert len(found) == 1 and found.report.counts == {"unknown_key": 1}


def test_other_keys_are_counted_and_said_once(caplog):
    records = [{"messages": MESSAGES, "score": 3, "origin": "web"}, {"messages": MESSAGES, "score": 4}]
    with caplog.at_level(logging.WARNING):
        load_samples(records)
    assert [record.message for record in caplog.records if "not read" in record.message] == [
        "keys of records that are not read: 'score' (2), 'origin' (1)"
    ]


@pytest.mark.parametrize("mark", [{"loss": False}, {"train": False}, {"weight": 0}, {"loss": 0.0}])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("template", ["vicuna_v1", "chat"])
def test_a_turn_without_loss_has_no_labels(template, form, mark, processor):
    turns = FORMS[form]
    key = "value" if form == "conversations" else "content"
    more = [turns[0], {**turns[1], key: "a blue cup"}]
    plain = encode(first({form: [*turns, *more]}), template, processor)
    masked = encode(first({form: [turns[0], {**turns[1], **mark}, *more]}), template, processor)
    last = encode(first({form: [*turns, more[0], {**more[1], **mark}]}), template, processor)
    assert plain.input_ids == masked.input_ids == last.input_ids
    learnt = [[label != IGNORE_INDEX for label in row.labels] for row in (plain, masked, last)]
    assert 0 < sum(learnt[1]) < sum(learnt[0]) and 0 < sum(learnt[2]) < sum(learnt[0])
    assert [a or b for a, b in zip(learnt[1], learnt[2], strict=True)] == learnt[0]


@pytest.mark.parametrize("weight", [0.5, "no", 2, [1]])
def test_a_weight_between_is_refused(weight):
    with pytest.raises(BadRecord, match=r"has weight=.*wanted true or false"):
        first({"messages": [MESSAGES[0], {**MESSAGES[1], "weight": weight}]})


def test_a_wrong_number_of_pictures_is_told_in_the_words_of_the_file(tmp_path):
    turns = [{"from": "human", "value": "what is it?"}, TURNS[1]]
    with pytest.raises(BadRecord, match=r"1 pictures and 0 of <image> in the turns; write one <image>") as refused:
        load_samples([{"conversations": turns, "image": {"bytes": _png()}}])
    assert "FFFC" not in str(refused.value)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "r" * 100_000, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "t" * 100_000}]}]},
        {"conversations": [{"from": "f" * 100_000, "value": "x"}]},
        {"conversations": TURNS, "id": ["i" * 100_000]},
        {"k" * 100_000: 3},
        {"messages": MESSAGES, "video": "v" * 100_000},
        {"conversations": TURNS, "image": np.zeros((4, 4, 3), np.uint8)},
        {"conversations": TURNS, "image": {"bytes": "QUJD" * 9000}},
        {"conversations": TURNS, "image": "a b" * 100_000},
    ],
)
def test_no_message_is_longer_than_a_few_lines(record, tmp_path):
    with pytest.raises(BadRecord) as refused:
        load_samples([record], tmp_path)
    assert len(str(refused.value)) < 500


def _png():
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return stream.getvalue()
