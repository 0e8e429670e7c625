import pytest
from PIL import Image

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn
from contralign.data.text.templates import TEMPLATES, VICUNA_SYSTEM, find_all


def talk(*texts: str) -> Sample:
    pictures = (Image.new("RGB", (2, 2)),) * sum(text.count(IMAGE) for text in texts)
    return Sample("t", tuple(Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)), pictures)


def answers(layout) -> list[str]:
    return [layout.text[start:end] for start, end in layout.answers]


def test_vicuna_puts_sides_and_end_tokens():
    layout = TEMPLATES["vicuna_v1"].layout(talk("One?", "Yes.", "Two?", "No."))
    assert layout.text == f"{VICUNA_SYSTEM} USER: One? ASSISTANT: Yes.</s>USER: Two? ASSISTANT: No.</s>"
    assert answers(layout) == [" Yes.</s>", " No.</s>"] and layout.complete


def test_gemma_puts_turns_and_learns_through_eos():
    layout = TEMPLATES["gemma"].layout(talk(f"{IMAGE}\nOne?", "Yes."))
    start = "<start_of_turn>"
    assert layout.text == f"{start}user\n{IMAGE}\nOne?<end_of_turn>\n{start}model\nYes.<end_of_turn>\n<eos>"
    assert answers(layout) == ["Yes.<end_of_turn>\n<eos>"]
    assert layout.images == (layout.text.index(IMAGE),)


def test_plain_discards_the_question_but_not_its_pictures():
    layout = TEMPLATES["plain"].layout(talk(f"{IMAGE}\nDescribe {IMAGE}", "a bus"))
    assert layout.text == f"{IMAGE}{IMAGE}a bus\n" and answers(layout) == ["a bus\n"]


@pytest.mark.parametrize("name", ["vicuna_v1", "gemma", "plain"])
def test_places_point_at_the_answers(name):
    sample = talk(f"{IMAGE}\nOne?", "a red bus")
    layout = TEMPLATES[name].layout(sample)
    at, first, last = layout.places[1]
    assert layout.text[at : at + last - first] == sample.turns[1].text[first:last] == "a red bus"


@pytest.mark.parametrize("name", ["vicuna_v1", "gemma", "plain"])
def test_an_open_prompt_begins_the_whole_text_and_learns_nothing(name):
    sample = talk(f"{IMAGE}\nOne?", "Yes.")
    whole, prompt = TEMPLATES[name].layout(sample), TEMPLATES[name].layout(sample, open_prompt=True)
    assert whole.text.startswith(prompt.text) and prompt.answers == ()


def test_a_prompt_does_not_lose_the_picture_of_an_answer():
    with pytest.raises(BadRecord, match="picture_in_answer"):
        TEMPLATES["vicuna_v1"].layout(talk("Draw.", f"Here: {IMAGE}"), open_prompt=True)


def test_braces_in_a_text_are_text():
    layout = TEMPLATES["vicuna_v1"].layout(talk("What is {}?", "{0} {x}"))
    assert "USER: What is {}? ASSISTANT: {0} {x}</s>" in layout.text


def test_finding_takes_no_overlap():
    assert find_all("aaaa", "aa") == (0, 2) and find_all("b", "aa") == ()
