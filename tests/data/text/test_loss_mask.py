"""Token ids and label masks, against what the original code computes (tests/golden/tokenization.json)."""

import json
from pathlib import Path

import pytest
from PIL import Image

from contralign.batch import IGNORE_INDEX
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.formats.llava_json import llava_sample
from contralign.data.records.messages import IMAGE, Sample, Span, Turn
from contralign.data.text.loss_mask import IMAGE_SENTINEL, encode, kinds, prompt_ids

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "tokenization.json").read_text())
CASES = {case["name"]: case for case in GOLDEN["cases"]}
TEMPLATES = {"v1": "vicuna_v1", "plain": "plain", "gemma": "gemma"}
ALL = [(name, entry["name"]) for name, entries in GOLDEN["sets"].items() for entry in entries]
REFUSED = {
    "text_only_single": "no_picture",
    "answer_contains_role": "not_one_answer",
    "very_long_image": "not_one_answer",
}


def sample_of(case: dict, template: str) -> Sample:
    """The record as our reader reads it.

    One golden case has no counterpart here: `plain` of the original takes the literal <image> of a text-only record for
    pictures. There the sample is given the pictures that the original imagines.
    """
    if template == "plain" and case["name"] == "literal_image_text_only":
        roles = {"human": "user", "gpt": "assistant"}
        turns = [Turn(roles[t["from"]], t["value"].replace("<image>", IMAGE)) for t in case["conversations"]]
        return Sample(case["name"], tuple(turns), (Image.new("RGB", (2, 2)),) * 2)
    record = {"id": case["name"], "conversations": case["conversations"]}
    if case["has_image"]:
        record["image"] = Image.new("RGB", (2, 2))
    return llava_sample(record, case["name"], None)


@pytest.mark.parametrize(("set_name", "case_name"), ALL, ids=["/".join(pair) for pair in ALL])
def test_ids_and_labels_equal_the_original(set_name, case_name, llama_like, gemma_like):
    entry = next(entry for entry in GOLDEN["sets"][set_name] if entry["name"] == case_name)
    template = TEMPLATES[set_name.split("/")[0]]
    tokenizer = gemma_like if template == "gemma" else llama_like
    sample, max_length = sample_of(CASES[case_name], template), int(set_name.split("max=")[1])
    if "error" in entry:
        with pytest.raises(BadRecord) as refusal:
            encode(sample, template, tokenizer, max_length)
        assert refusal.value.reason == REFUSED[case_name]
        return
    encoded = encode(sample, template, tokenizer, max_length)
    assert list(encoded.input_ids) == entry["input_ids"]
    assert list(encoded.labels) == entry["labels"]
    assert encoded.num_labels == sum(label not in (IGNORE_INDEX, IMAGE_SENTINEL) for label in entry["labels"])


def test_every_golden_set_is_tested():
    assert len(ALL) == 48
    assert sum("error" in entry for entries in GOLDEN["sets"].values() for entry in entries) == 3


@pytest.mark.parametrize("entry", GOLDEN["open_prompts"], ids=lambda entry: f"{entry['template']}-{entry['name']}")
@pytest.mark.parametrize("answered", [False, True])
def test_generation_prompts_equal_the_original(entry, answered, llama_like, gemma_like):
    turns = []
    for question, answer in entry["history"]:
        turns += [Turn("user", question.replace("<image>", IMAGE)), Turn("assistant", answer)]
    turns.append(Turn("user", entry["question"].replace("<image>", IMAGE)))
    turns += [Turn("assistant", "left out")] if answered else []
    pictures = (Image.new("RGB", (2, 2)),) * sum(turn.text.count(IMAGE) for turn in turns)
    tokenizer = gemma_like if entry["template"] == "gemma" else llama_like
    ids = prompt_ids(Sample("p", tuple(turns), pictures), entry["template"], tokenizer)
    assert list(ids) == entry["input_ids"]


def test_the_plain_template_refuses_a_text_only_record_that_says_image(llama_like):
    record = {"conversations": CASES["literal_image_text_only"]["conversations"]}
    with pytest.raises(BadRecord, match="no_picture"):
        encode(llava_sample(record, "r", None), "plain", llama_like)


def talk(*texts: str, **settings) -> Sample:
    roles = ("user", "assistant")
    return Sample("talk", tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts)), **settings)


def learned(encoded, tokenizer) -> list[str]:
    return [tokenizer.convert_ids_to_tokens(label) for label in encoded.labels if label != IGNORE_INDEX]


def test_vicuna_learns_the_last_answer_after_an_empty_one(llama_like):
    encoded = encode(talk("One?", "", "Two?", "Yes."), "vicuna_v1", llama_like)
    assert learned(encoded, llama_like) == ["▁Yes", ".", "</s>"]


@pytest.mark.parametrize("texts", [("One?", "Yes.", "Two?", ""), ("One?", "")])
def test_vicuna_learns_nothing_if_the_last_answer_is_empty(texts, llama_like):
    assert encode(talk(*texts), "vicuna_v1", llama_like).num_labels == 0


@pytest.mark.parametrize("texts", [("One?", "", "Two?", "Yes."), ("One?", "Yes.", "Two?", "")])
def test_gemma_learns_nothing_if_any_answer_is_empty(texts, gemma_like):
    assert encode(talk(*texts), "gemma", gemma_like).num_labels == 0


@pytest.mark.parametrize(
    "texts",
    [
        ("Q?", "a</s>b"),
        ("Q?", "a</s>"),
        ("Q</s>?", "a"),
        ("Say ASSISTANT: now", "a"),
        ("Q?", "I am ASSISTANT: yes"),
        ("", "a"),
    ],
)
def test_vicuna_learns_nothing_where_rounds_cannot_be_told_apart(texts, llama_like):
    assert encode(talk(*texts), "vicuna_v1", llama_like, 2048).num_labels == 0


@pytest.mark.parametrize(
    "texts", [("Q?", "a<eos>b"), ("Q<eos>?", "a"), ("Q?", "a<start_of_turn>model\nb"), ("", "a<eos>")]
)
def test_gemma_learns_nothing_where_rounds_cannot_be_told_apart(texts, gemma_like):
    assert encode(talk(*texts), "gemma", gemma_like, 2048).num_labels == 0


def test_a_record_that_is_full_before_the_unclear_turn_keeps_its_labels(llama_like):
    sample = talk("Q?", "a long answer " * 20, "Q?", "an ASSISTANT: inside")
    assert encode(sample, "vicuna_v1", llama_like, 4096).num_labels == 0
    assert encode(sample, "vicuna_v1", llama_like).num_labels == 0
    kept = encode(sample, "vicuna_v1", llama_like, 64)
    alone = encode(talk("Q?", "a long answer " * 20), "vicuna_v1", llama_like)
    assert kept.num_labels == alone.num_labels > 60


def test_plain_learns_a_space_and_the_newline_of_an_empty_caption(llama_like):
    encoded = encode(talk(IMAGE, "", pictures=(Image.new("RGB", (2, 2)),)), "plain", llama_like)
    assert learned(encoded, llama_like) == ["▁", "<0x0A>"]


def test_a_system_turn_replaces_vicunas_own(llama_like):
    sample = Sample("s", (Turn("system", "Be brief."), Turn("user", "Q?"), Turn("assistant", "A.")))
    text = llama_like.decode(encode(sample, "vicuna_v1", llama_like).input_ids)
    assert "Be brief. USER: Q?" in text and "curious" not in text


@pytest.mark.parametrize("template", ["plain", "gemma"])
def test_templates_without_a_system_part_refuse_a_system_turn(template, llama_like, gemma_like):
    pictures = (Image.new("RGB", (2, 2)),)
    sample = Sample("s", (Turn("system", "Be brief."), Turn("user", IMAGE), Turn("assistant", "A.")), pictures)
    with pytest.raises(BadRecord, match="system_turn"):
        encode(sample, template, gemma_like if template == "gemma" else llama_like)


def test_a_sample_without_an_answer_is_refused(llama_like):
    with pytest.raises(BadRecord, match="no_answer"):
        encode(talk("Q?"), "vicuna_v1", llama_like)


def test_an_unknown_template_names_the_known_ones(llama_like):
    with pytest.raises(ValueError, match="chat, plain, vicuna_v1, gemma"):
        encode(talk("Q?", "A."), "vicuna", llama_like)


@pytest.mark.parametrize(("template", "token"), [("vicuna_v1", "</s>"), ("gemma", "<start_of_turn>")])
def test_a_tokenizer_without_the_templates_tokens_is_refused(template, token, llama_like, gemma_like):
    with pytest.raises(ValueError, match=token):
        encode(talk("Q?", "A."), template, llama_like if template == "gemma" else gemma_like)


@pytest.mark.parametrize("template", ["vicuna_v1", "gemma", "plain"])
@pytest.mark.parametrize("answer", ["A red bird, 北京 😀 — yes!", "two  spaces\nand lines", "x"])
def test_token_spans_cover_every_character_of_the_answer(template, answer, llama_like, gemma_like):
    tokenizer = gemma_like if template == "gemma" else llama_like
    sample = talk(f"{IMAGE}\nWhat?", answer, pictures=(Image.new("RGB", (2, 2)),))
    encoded = encode(sample, template, tokenizer)
    covered = {at for span in encoded.token_spans if span for at in range(span[1], span[2])}
    assert covered == set(range(len(answer)))
    assert {span[0] for span in encoded.token_spans if span} == {1}
    assert encoded.token_spans[-1] is None and encoded.labels[-1] != IGNORE_INDEX


def test_token_spans_name_their_own_turn(llama_like):
    sample = talk("One?", "red car", "Two?", "blue bus")
    encoded = encode(sample, "vicuna_v1", llama_like)
    spoken = [sample.turns[span[0]].text[span[1] : span[2]] for span in encoded.token_spans if span]
    assert spoken == ["red", " car", "blue", " bus"]


def test_a_tokens_kind_is_that_of_its_first_character_that_is_no_space(llama_like):
    answer = "a red bus on a street"
    spans = (Span(1, 2, 5, "visual"), Span(1, 5, 9, "filler"), Span(1, 15, 21, "contradictory"))
    sample = talk("What?", answer, spans=spans)
    encoded = encode(sample, "vicuna_v1", llama_like)
    named = [
        (answer[span[1] : span[2]].strip(), kind)
        for span, kind in zip(encoded.token_spans, kinds(sample, encoded), strict=True)
        if span
    ]
    assert named == [
        ("a", None),
        ("red", "visual"),
        ("bus", "filler"),
        ("on", None),
        ("a", None),
        ("street", "contradictory"),
    ]
    assert [
        kind for kind, label in zip(kinds(sample, encoded), encoded.labels, strict=True) if label == IGNORE_INDEX
    ] == [None] * encoded.labels.count(IGNORE_INDEX)
