import json
from pathlib import Path

import pytest
from PIL import Image

from contralign.data.records.formats.llava_json import llava_sample
from contralign.data.records.messages import IMAGE

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "tokenization.json").read_text())
CASES = {case["name"]: case for case in GOLDEN["cases"]}
MOVED = [entry for entry in GOLDEN["sets"]["v1/legacy=True/max=2048"] if CASES[entry["name"]]["has_image"]]


@pytest.mark.parametrize("entry", MOVED, ids=lambda entry: entry["name"])
def test_pictures_move_to_the_front_of_their_turn_as_in_the_original(entry):
    record = {"conversations": CASES[entry["name"]]["conversations"], "image": Image.new("RGB", (2, 2))}
    sample = llava_sample(record, "r", None)
    assert [turn.text.replace(IMAGE, "<image>") for turn in sample.turns] == entry["turns_after_multimodal"]


def turns(*values):
    sides = ("human", "gpt")
    return [{"from": sides[index % 2], "value": value} for index, value in enumerate(values)]


def test_without_a_picture_the_tag_is_text():
    sample = llava_sample({"conversations": turns("What is <image>?", "A <image> tag.")}, "r", None)
    assert sample.turns[0].text == "What is <image>?" and not sample.pictures


def test_several_pictures_stay_where_they_are(red, blue):
    record = {"image": [red, blue], "conversations": turns("From <image> to <image>?", "Yes.")}
    sample = llava_sample(record, "r", None)
    assert sample.turns[0].text == f"From {IMAGE} to {IMAGE}?" and sample.pictures == (red, blue)


def test_a_first_turn_of_gpt_is_dropped():
    record = {"conversations": [{"from": "gpt", "value": "Hello"}, *turns("What?", "A dog.")]}
    assert [turn.text for turn in llava_sample(record, "r", None).turns] == ["What?", "A dog."]


@pytest.mark.parametrize(("own", "wanted"), [("x", "x"), (7, "7"), (None, "name"), ("", "name")])
def test_a_sample_has_the_records_id_or_its_name(own, wanted):
    assert llava_sample({"id": own, "conversations": turns("What?", "A dog.")}, "name", None).id == wanted


def test_a_null_image_is_no_image():
    assert llava_sample({"image": None, "conversations": turns("What?", "A dog.")}, "r", None).pictures == ()
