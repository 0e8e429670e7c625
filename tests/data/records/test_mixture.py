"""Loading: every broken record has a name and a reason, and nothing is lost in silence."""

import json
import logging
from pathlib import Path

import datasets
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Turn, open_image
from contralign.data.records.mixture import load_samples

ASK = {"from": "human", "value": "<image>\nWhat?"}
PLAIN_ASK = {"from": "human", "value": "What?"}
SAY = {"from": "gpt", "value": "A dog."}


def llava(*turns, **keys):
    return {"id": "r", "conversations": list(turns) or [ASK, SAY], **keys}


def chat(*messages, **keys):
    return {"messages": list(messages), **keys}


def said(role, content):
    return {"role": role, "content": content}


QUESTION, ANSWER = said("user", "What?"), said("assistant", "A dog.")
IMAGE_PART, TEXT_PART = {"type": "image"}, {"type": "text", "text": "What?"}

BAD = {
    # what a record is
    "a list": ([1, 2], "wrong_type"),
    "a number": (7, "wrong_type"),
    "null": (None, "wrong_type"),
    "a text": ("hello", "wrong_type"),
    "no keys": ({}, "missing_key"),
    "other keys": ({"prompt": "a", "completion": "b"}, "missing_key"),
    "two forms": (llava(PLAIN_ASK, SAY, messages=[QUESTION, ANSWER]), "ambiguous"),
    "an id that is a list": (llava(PLAIN_ASK, SAY, id=["a"]), "wrong_type"),
    "an id that is true": (llava(PLAIN_ASK, SAY, id=True), "wrong_type"),
    # LLaVA turns
    "null conversations": ({"conversations": None}, "missing_key"),
    "conversations that are a text": ({"conversations": "hi"}, "wrong_type"),
    "conversations that are an object": ({"conversations": ASK}, "wrong_type"),
    "no turns": ({"conversations": []}, "no_turns"),
    "a turn that is a text": (llava(PLAIN_ASK, "A dog."), "wrong_type"),
    "a turn that is null": (llava(PLAIN_ASK, None), "wrong_type"),
    "a turn without from": (llava(PLAIN_ASK, {"value": "A dog."}), "missing_key"),
    "a turn without value": (llava(PLAIN_ASK, {"from": "gpt"}), "missing_key"),
    "a value that is null": (llava(PLAIN_ASK, {"from": "gpt", "value": None}), "wrong_type"),
    "a value that is a number": (llava(PLAIN_ASK, {"from": "gpt", "value": 3}), "wrong_type"),
    "an unknown side": (llava(PLAIN_ASK, {"from": "bard", "value": "x"}), "wrong_role"),
    "a system side in the middle": (llava(PLAIN_ASK, {"from": "system", "value": "x"}, SAY), "turns_not_alternating"),
    "a side that is a list": (llava(PLAIN_ASK, {"from": ["gpt"], "value": "x"}), "wrong_role"),
    "two questions": (llava(PLAIN_ASK, PLAIN_ASK, SAY), "turns_not_alternating"),
    "two answers": (llava(PLAIN_ASK, SAY, SAY), "turns_not_alternating"),
    "a question alone": (llava(PLAIN_ASK), "no_answer"),
    "an answer alone": (llava(SAY), "no_answer"),
    "a question at the end": (llava(PLAIN_ASK, SAY, PLAIN_ASK), "no_answer"),
    "a picture marker of ours": (llava({"from": "human", "value": f"{IMAGE} What?"}, SAY), "reserved_character"),
    # pictures
    "a missing picture": (llava(image="absent.png"), "missing_picture"),
    "a picture that is a folder": (llava(image="sub"), "missing_picture"),
    "a picture that is a text": (llava(image="text.png"), "corrupt_picture"),
    "an empty picture": (llava(image="empty.png"), "corrupt_picture"),
    "a path upwards": (llava(image="../secret.png"), "outside_root"),
    "a hidden path upwards": (llava(image="sub/../../secret.png"), "outside_root"),
    "an absolute path": (llava(image="/etc/passwd"), "absolute_path"),
    "a symlink that leads out": (llava(image="outward.png"), "outside_root"),
    "a symlink to itself": (llava(image="loop.png"), "missing_picture"),
    "a web address": (llava(image="https://example.com/a.png"), "remote_picture"),
    "a data address": (llava(image="data:image/png;base64,AAAA"), "remote_picture"),
    "an empty picture name": (llava(image=""), "wrong_type"),
    "a zero byte in a picture name": (llava(image="a\0.png"), "wrong_type"),
    "a picture name that is a number": (llava(image=5), "wrong_type"),
    "picture bytes that are a text": (llava(image={"bytes": "x"}), "wrong_type"),
    "picture bytes of no picture": (llava(image={"bytes": b"GIF8"}), "corrupt_picture"),
    "an image and images": (llava(image="good.png", images=["good.png"]), "ambiguous"),
    "a picture without a place": (llava(PLAIN_ASK, SAY, image="good.png"), "picture_count"),
    "a picture with places in two turns": (llava(ASK, SAY, ASK, SAY, image="good.png"), "picture_count"),
    "two pictures for one place": (llava(image=["good.png", "sub/other.png"]), "picture_count"),
    # chat messages
    "null messages": ({"messages": None}, "missing_key"),
    "messages that are a text": ({"messages": "hi"}, "wrong_type"),
    "no messages": (chat(), "no_turns"),
    "a message that is a text": (chat("hi"), "wrong_type"),
    "a message without a role": (chat({"content": "x"}), "missing_key"),
    "a message without content": (chat({"role": "user"}), "missing_key"),
    "a tool role": (chat(QUESTION, said("tool", "x")), "wrong_role"),
    "a role that is null": (chat(said(None, "x")), "wrong_role"),
    "content that is null": (chat(said("user", None), ANSWER), "wrong_type"),
    "content that is a number": (chat(said("user", 3), ANSWER), "wrong_type"),
    "a part that is a text": (chat(said("user", ["x"]), ANSWER), "wrong_part"),
    "a part without a type": (chat(said("user", [{"text": "x"}]), ANSWER), "wrong_part"),
    "a video part": (chat(said("user", [{"type": "video", "video": "a.mp4"}]), ANSWER), "wrong_part"),
    "a text part without text": (chat(said("user", [{"type": "text"}]), ANSWER), "wrong_type"),
    "an image part without a picture": (chat(said("user", [IMAGE_PART, TEXT_PART]), ANSWER), "picture_count"),
    "more pictures than image parts": (
        chat(said("user", [IMAGE_PART, TEXT_PART]), ANSWER, images=["good.png", "good.png"]),
        "picture_count",
    ),
    "an image part on the web": (
        chat(said("user", [{"type": "image", "url": "http://x/a.png"}]), ANSWER),
        "remote_picture",
    ),
    "an image part outside the root": (
        chat(said("user", [{"type": "image", "path": "../secret.png"}]), ANSWER),
        "outside_root",
    ),
    "two pictures for one written place": (
        chat(said("user", "<image> What?"), ANSWER, images=["good.png", "good.png"]),
        "picture_count",
    ),
    "two user messages": (chat(QUESTION, QUESTION, ANSWER), "turns_not_alternating"),
    "an assistant first": (chat(ANSWER, QUESTION, ANSWER), "turns_not_alternating"),
    "a system message in the middle": (chat(QUESTION, said("system", "x"), ANSWER), "turns_not_alternating"),
    "a system message alone": (chat(said("system", "x")), "no_answer"),
    "a user message at the end": (chat(QUESTION, ANSWER, QUESTION), "no_answer"),
    "a marker of ours in a message": (chat(said("user", f"a {IMAGE}"), ANSWER), "reserved_character"),
}

GOOD = {"id": "good", "image": "good.png", "conversations": [ASK, SAY]}


@pytest.mark.parametrize(("record", "reason"), BAD.values(), ids=BAD)
def test_a_bad_record_is_an_error_that_names_it(record, reason, image_root):
    with pytest.raises(BadRecord) as refusal:
        load_samples([[GOOD, record]], image_root)
    assert refusal.value.reason == reason
    assert "record 1" in refusal.value.record
    assert refusal.value.message and reason in str(refusal.value)


@pytest.mark.parametrize(("record", "reason"), BAD.values(), ids=BAD)
def test_a_bad_record_is_skipped_and_counted(record, reason, image_root, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load_samples([[GOOD, record, GOOD]], image_root, on_bad="skip")
    assert len(loaded) == 2 and loaded.report.total == 3
    assert loaded.report.counts == {reason: 1}
    assert "record 1" in loaded.report.bad[0].record
    assert "2 of 3 records" in caplog.text and reason in caplog.text


def test_at_least_forty_five_kinds_of_bad_record_are_tested():
    assert len(BAD) >= 45 and len({reason for _, reason in BAD.values()}) >= 15


def write(path: Path, *records) -> Path:
    path.write_text(json.dumps(list(records)))
    return path


def test_files_lists_and_samples_are_joined_in_order(tmp_path, image_root):
    one = write(tmp_path / "one.json", {**GOOD, "id": "a"}, {**GOOD, "id": "b"})
    two = tmp_path / "two.jsonl"
    two.write_text(json.dumps(chat(QUESTION, ANSWER, id="c")) + "\n\n" + json.dumps({**GOOD, "id": "d"}) + "\n")
    ready = Sample("e", (Turn("user", "What?"), Turn("assistant", "A dog.")))
    loaded = load_samples([one, str(two), [ready]], [image_root, image_root, None])
    assert [sample.id for sample in loaded] == ["a", "b", "c", "d", "e"]
    assert [sample.source for sample in loaded] == ["one.json", "one.json", "two.jsonl", "two.jsonl", "list"]
    assert loaded[4].id == "e" and len(loaded) == 5


def test_a_broken_line_of_jsonl_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(json.dumps(chat(QUESTION, ANSWER)).encode() + b"\n{broken\n\xff\xfe\n")
    with pytest.raises(BadRecord, match=r"lines\.jsonl:2: .*bad_json"):
        load_samples(path)
    loaded = load_samples(path, on_bad="skip")
    assert [fault.record for fault in loaded.report.bad] == ["lines.jsonl:2", "lines.jsonl:3"]


def test_a_bad_record_of_a_json_file_is_named_by_file_and_index(tmp_path, image_root):
    path = write(tmp_path / "mix.json", GOOD, llava(image="absent.png"))
    with pytest.raises(BadRecord, match=r"mix\.json\[1\]: .*absent\.png"):
        load_samples(path, image_root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "does not exist"),
        ("data.csv", "a,b", "ending .json or .jsonl"),
        ("broken.json", "[{", "does not parse"),
        ("lines.json", '{"a": 1}\n{"a": 2}', "name it .jsonl"),
        ("object.json", "{}", "holds a dict"),
        ("nothing.json", "[]", "holds no records"),
        ("nothing.jsonl", "\n", "holds no records"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_under_skip_too(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_samples(tmp_path / name, on_bad="skip")


def test_pictures_without_an_image_root_are_an_error_under_skip_too():
    with pytest.raises(BadRecord, match="set image_root"):
        load_samples([[GOOD]], on_bad="skip")


def test_an_image_root_that_nobody_needs_is_an_error(image_root):
    with pytest.raises(ValueError, match="names a picture file; leave it out"):
        load_samples([[llava(PLAIN_ASK, SAY)]], image_root)
    with pytest.raises(ValueError, match="leave it out"):
        load_samples([[GOOD], [llava(PLAIN_ASK, SAY)]], [image_root, image_root])
    assert len(load_samples([[GOOD], [llava(PLAIN_ASK, SAY)]], image_root)) == 2


@pytest.mark.parametrize(
    ("sources", "roots", "message"),
    [
        ([[GOOD]], ["a", "b"], "2 image roots for 1 sources"),
        ([[GOOD]], "no/such/folder", "is not a folder"),
        ([], None, "sources is empty"),
        (7, None, "sources of type int"),
        ([7], None, "source of type int"),
    ],
)
def test_sources_and_roots_that_do_not_fit_are_refused(sources, roots, message):
    with pytest.raises(ValueError, match=message):
        load_samples(sources, roots)


def test_an_unknown_way_with_bad_records_is_refused():
    with pytest.raises(ValueError, match="on_bad='ignore'"):
        load_samples([[GOOD]], on_bad="ignore")


def test_a_set_in_which_nothing_is_left_is_an_error(image_root):
    with pytest.raises(ValueError, match=r"no sample left: 0 of 2 records; skipped: missing_picture 2"):
        load_samples([[llava(image="a.png"), llava(image="b.png")]], image_root, on_bad="skip")


def test_ids_become_unique_and_that_is_reported(caplog):
    records = [llava(PLAIN_ASK, SAY, id=name) for name in ("a", "b", "a", "a#2", "a")]
    loaded = load_samples([records])
    names = [sample.id for sample in loaded]
    assert names[:2] == ["a", "b"] and len(set(names)) == 5
    assert loaded.report.renamed == ("a",)
    assert "not unique" in caplog.text


def test_a_record_without_an_id_is_called_by_its_place(tmp_path):
    path = write(tmp_path / "mix.json", chat(QUESTION, ANSWER), chat(QUESTION, ANSWER))
    assert [sample.id for sample in load_samples(path)] == ["mix.json[0]", "mix.json[1]"]


def test_a_check_refuses_what_the_template_cannot_learn(llava_processor_with_chat):
    check = VLCollator(llava_processor_with_chat).check
    silent = llava(PLAIN_ASK, {"from": "gpt", "value": ""}, id="silent")
    assert len(load_samples([[llava(PLAIN_ASK, SAY)]], check=check)) == 1
    loaded = load_samples([[silent, llava(PLAIN_ASK, SAY)]], on_bad="skip", check=check)
    assert loaded.report.counts == {"no_label": 1}


@pytest.fixture
def llava_processor_with_chat(make_llava, unmarked):
    return make_llava(unmarked.replace("</s>", ""))


@pytest.fixture
def picture_rows(red, blue):
    features = datasets.Features(
        {
            "images": datasets.List(datasets.Image()),
            "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
        }
    )
    rows = {
        "images": [[red], [red, blue], []],
        "messages": [
            [said("user", "<image>What?"), ANSWER],
            [said("user", "Compare."), ANSWER],
            [said("user", "What is <image>?"), ANSWER],
        ],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_hugging_face_set_gives_samples_whose_pictures_stay_in_it(picture_rows, red, blue):
    loaded = load_samples(picture_rows)
    assert [sample.turns[0].text for sample in loaded] == [
        f"{IMAGE}What?",
        f"{IMAGE}{IMAGE}Compare.",
        "What is <image>?",
    ]
    assert not any(isinstance(picture, Image.Image) for sample in loaded for picture in sample.pictures)
    assert [open_image(picture) for picture in loaded[1].pictures] == [red, blue]


def test_a_hugging_face_set_of_llava_records_with_one_picture_column(red):
    rows = datasets.Dataset.from_list([{"image": red, "conversations": [ASK, SAY]}])
    loaded = load_samples(rows.cast_column("image", datasets.Image()))
    assert loaded[0].turns[0].text == f"{IMAGE}\nWhat?"
    assert open_image(loaded[0].pictures[0]) == red


def test_a_broken_picture_in_a_hugging_face_set_is_named(picture_rows):
    broken = {"images": [[{"bytes": b"no picture", "path": None}]], "messages": [[QUESTION, ANSWER]]}
    rows = datasets.Dataset.from_dict(broken, features=picture_rows.features)
    with pytest.raises(BadRecord, match=r"data set, row 0: .*corrupt_picture"):
        load_samples(rows)


def test_a_loader_draws_batches_from_the_set(picture_rows, llava):
    loader = DataLoader(load_samples(picture_rows), batch_size=2, collate_fn=VLCollator(llava))
    first, second = list(loader)
    assert first["pixel_values"].shape[0] == 3 and "pixel_values" not in second
    assert (first["labels"] != -100).any(dim=1).all() and (second["labels"] != -100).any()
