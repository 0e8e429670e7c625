import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.same_numbers import assert_near, in_float64, twin
from worlds.small_mini_gemini import build_mini_gemini, picture_batch

from contralign.models.convert import ConversionError
from contralign.models.convert.checkpoint import read_json, read_weights
from contralign.models.convert.conversion import layout_of, to_hugging_face, to_original
from contralign.models.convert.llava.load import PROJECTOR_FILE
from contralign.models.convert.mini_gemini.save import save_original_mini_gemini
from contralign.models.convert.weight_files import write_tensors, write_weights

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


def test_a_small_precision_beside_a_larger_one_is_said(tmp_path, caplog):
    source = Path(shutil.copytree(TOWERS / "llava15_tiny", tmp_path / "source"))
    state = {name: value if "vision_tower" in name else value.half() for name, value in read_weights(source).items()}
    for file in source.glob("*.bin*"):
        file.unlink()
    write_weights(state, source, "bin")
    done = to_hugging_face(source, tmp_path / "hf", tower_root=TOWERS, tokenizer=TOKENIZER)
    assert done.dtype == "float16" and "55 tensors come down to torch.float16" in caplog.text
    caplog.clear()
    to_hugging_face(source, tmp_path / "full", tower_root=TOWERS, tokenizer=TOKENIZER, dtype=torch.float32)
    assert not caplog.text


@pytest.fixture
def mgm(tmp_path) -> Path:
    done = to_hugging_face(TOWERS / "mgm_llama_tiny", tmp_path / "mgm", tower_root=TOWERS, tokenizer=TOKENIZER)
    assert done.family == "mini_gemini" and "image token: 128, without a row" in done.notes
    return tmp_path / "mgm"


@torch.no_grad()
def test_mini_gemini_gives_the_original_logits_through_the_auto_class(mgm):
    arrays = np.load(GOLDEN / "mgm_llama_forward.npz")
    golden = {name.removeprefix("plain/"): torch.from_numpy(arrays[name]) for name in arrays}
    model = AutoModelForImageTextToText.from_pretrained(mgm).eval()
    for row, (ids, kept) in enumerate(zip(golden["input_ids"], golden["attention_mask"].bool(), strict=True)):
        tokens = ids[kept].tolist()
        spliced = [t for token in tokens for t in ([128] * 16 if token == -200 else [token])]
        one = slice(row, row + 1)
        pixels = {"pixel_values": golden["images"][one].float(), "pixel_values_aux": golden["images_aux"][one].float()}
        logits = model(input_ids=torch.tensor([spliced]), **(pixels if -200 in tokens else {})).logits[0]
        seen = golden["mask_spliced"][row]
        torch.testing.assert_close(logits, golden["logits"][row][seen], atol=5e-5, rtol=0)
        assert logits.std() > 1


def test_mini_gemini_generates_and_comes_back(mgm, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(mgm).eval()
    processor = AutoProcessor.from_pretrained(mgm)
    inputs = processor(images=Image.new("RGB", (60, 40)), text="<image> \nWhat?", return_tensors="pt")
    assert (inputs["input_ids"] == 128).sum() == 16
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]
    to_original(mgm, tmp_path / "back")
    assert equal(read_weights(TOWERS / "mgm_llama_tiny"), read_weights(tmp_path / "back"))
    with pytest.raises(ConversionError, match="--format bin: mini_gemini is written as safetensors"):
        to_original(mgm, tmp_path / "again", weight_format="bin")


def test_a_mini_gemini_adapter_is_whole_beside_its_base(tmp_path, mgm):
    source = TOWERS / "mgm_llama_tiny"
    state = read_weights(source)
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    text = {name: value for name, value in state.items() if name.split(".")[1] in ("embed_tokens", "layers", "norm")}
    for folder in (base, adapter):
        folder.mkdir()
    write_weights(text | {"lm_head.weight": state["lm_head.weight"]}, base, "bin")
    write_tensors({n: v for n, v in state.items() if n not in text and n != "lm_head.weight"}, adapter / PROJECTOR_FILE)
    shutil.copy(source / "config.json", adapter)
    to_hugging_face(adapter, tmp_path / "hf", base=base, tower_root=TOWERS, tokenizer=TOKENIZER)
    assert equal(read_weights(tmp_path / "hf"), read_weights(mgm))


def test_mini_gemini_has_no_row_to_keep_out(tmp_path):
    with pytest.raises(ConversionError, match="--keep-vocabulary has no effect"):
        to_hugging_face(
            TOWERS / "mgm_llama_tiny", tmp_path / "out", tower_root=TOWERS, tokenizer=TOKENIZER, keep_vocabulary=True
        )


def test_the_layout_is_read_off_the_config():
    assert layout_of({"text_config": {}}) == "hf" and layout_of({"mm_vision_tower": "x"}) == "original"


@torch.no_grad()
def test_a_mini_gemini_of_gemma_goes_there_and_back(tmp_path, write_tokenizer, make_sentencepiece):
    model = build_mini_gemini(2, "gemma")
    names = {"mm_vision_tower": "towers/clip-tiny-patch14-28", "mm_vision_tower_aux": "towers/convnext"}
    model.config.original_settings = names
    save_original_mini_gemini(model, tmp_path / "source")
    specials = [("<pad>", 0.0, 3), ("<eos>", 0.0, 3), ("<bos>", 0.0, 3), ("<unk>", 0.0, 2)]
    words = [("<start_of_turn>", 0.0, 4), ("<end_of_turn>", 0.0, 4), ("\n", 0.0, 4)]
    letters = [(letter, -float(at), 1) for at, letter in enumerate("▁abcdefghijklmnopqrstuvwxyzW?.", 1)]
    content = make_sentencepiece([*specials, *words, *letters], add_dummy_prefix=False)
    tokenizer = write_tokenizer(
        content, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", tokenizer_class="GemmaTokenizer"
    )
    to_hugging_face(tmp_path / "source", tmp_path / "hf", tower_root=TOWERS, tokenizer=tokenizer)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "hf").eval()
    batch = picture_batch(model)
    pictures = batch["input_ids"] == model.config.image_token_id
    renamed = batch | {"input_ids": batch["input_ids"].masked_fill(pictures, again.config.image_token_id)}
    assert again.config.image_token_id == len(specials + words + letters) and pictures.any()
    assert_near(twin(again)(**in_float64(renamed)).logits, twin(model)(**in_float64(batch)).logits)
    processor = AutoProcessor.from_pretrained(tmp_path / "hf")
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    ids = processor.tokenizer.apply_chat_template(
        prompt, chat_template=processor.chat_template, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    text = processor.tokenizer.decode(ids)
    assert text == "<start_of_turn>user\n<image>\nWhat?<end_of_turn>\n<start_of_turn>model\n"
    to_original(tmp_path / "hf", tmp_path / "back")
    assert equal(read_weights(tmp_path / "source"), read_weights(tmp_path / "back"))
