from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from contralign.models.convert import ConversionError
from contralign.models.convert.checkpoint import read_json, read_weights
from contralign.models.convert.conversion import layout_of, to_hugging_face, to_original, written_beside

GOLDEN = Path(__file__).parents[2] / "golden"
TOWERS = GOLDEN / "ckpt"
TOKENIZER = GOLDEN / "tiny_llama_tokenizer"


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_llava_next_goes_there_generates_and_comes_back(next_checkpoint, tmp_path):
    done = to_hugging_face(next_checkpoint, tmp_path / "hf", tower_root=TOWERS, tokenizer=TOKENIZER)
    assert done.parts["model.image_newline"] == (1, 48) and done.family == "llava_next"
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "hf")
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    text = processor.apply_chat_template(prompt, add_generation_prompt=True)
    inputs = processor(images=Image.new("RGB", (60, 40)), text=text, return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]
    to_original(tmp_path / "hf", tmp_path / "back")
    assert equal(read_weights(next_checkpoint), read_weights(tmp_path / "back"))
    assert read_json(tmp_path / "back" / "config.json") == read_json(next_checkpoint / "config.json")


def test_processor_ids_open_with_one_bos(next_checkpoint, tmp_path):
    to_hugging_face(next_checkpoint, tmp_path / "hf", tower_root=TOWERS, tokenizer=TOKENIZER)
    processor = AutoProcessor.from_pretrained(tmp_path / "hf")
    prompt = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
    ids = processor.apply_chat_template(prompt, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"][0]
    assert ids.tolist().count(processor.tokenizer.bos_token_id) == 1 and ids[0] == 1


def test_training_after_the_conversion_survives_the_way_back(tmp_path):
    to_hugging_face(TOWERS / "llava15_tiny", tmp_path / "hf", tower_root=TOWERS, tokenizer=TOKENIZER)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        model.lm_head.weight += 1
    model.save_pretrained(tmp_path / "trained")
    done = to_original(tmp_path / "trained", tmp_path / "back", tokenizer=TOKENIZER)
    assert "64 rows from 128 on taken off the vocabulary" in done.notes
    state = read_weights(TOWERS / "llava15_tiny")
    assert equal(read_weights(tmp_path / "back"), state | {"lm_head.weight": state["lm_head.weight"] + 1})


def test_a_missing_tokenizer_on_the_way_back_is_said_and_a_wrong_one_refused(tmp_path):
    to_hugging_face(TOWERS / "llava15_tiny", tmp_path / "hf", tower_root=TOWERS, tokenizer=TOKENIZER)
    for file in (tmp_path / "hf" / "original_tokenizer").iterdir():
        file.unlink()
    done = to_original(tmp_path / "hf", tmp_path / "back")
    assert any("no tokenizer.model is known" in note for note in done.notes)
    with pytest.raises(ConversionError, match=r"has no tokenizer\.model"):
        to_original(tmp_path / "hf", tmp_path / "again", tokenizer=GOLDEN / "llama_like_tokenizer")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_gets_its_name_only_when_it_is_whole(tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "old").write_text("old")

    def write(fails: bool) -> None:
        with written_beside(out) as folder:
            (folder / "new").write_text("new")
            if fails:
                raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write(fails=True)
    assert out.exists() == there and (out / "old").exists() == there
    write(fails=False)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_layout_is_read_off_the_config():
    assert layout_of({"text_config": {}}) == "hf" and layout_of({"mm_vision_tower": "x"}) == "original"
