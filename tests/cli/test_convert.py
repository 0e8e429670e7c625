"""The command, as a user gives it: the tiny golden LLaVA to Hugging Face's layout and back, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from contralign.cli.main import app
from contralign.models.convert.checkpoint import read_tensors, read_weights

GOLDEN = Path(__file__).parents[1] / "golden"
TOWERS = GOLDEN / "ckpt"
CHECKPOINT = TOWERS / "llava15_tiny"
TOKENIZER = GOLDEN / "tiny_llama_tokenizer"
GIVEN = ("--tower-root", TOWERS, "--tokenizer", TOKENIZER)
IMAGE, PATCHES, ROWS = 128, 16, 128


def run(*words):
    return CliRunner().invoke(app, ["convert", *map(str, words)])


def words_of(result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("convert") / "llava"
    done = run(CHECKPOINT, out, *GIVEN)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def model(converted):
    return AutoModelForImageTextToText.from_pretrained(converted).eval()


@pytest.fixture(scope="module")
def processor(converted):
    return AutoProcessor.from_pretrained(converted)


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "source"))


@torch.no_grad()
def test_what_it_writes_gives_the_original_logits_from_ids_and_pixels(model):
    arrays = np.load(GOLDEN / "llava15_forward.npz")
    golden = {name: torch.from_numpy(arrays[name]) for name in arrays}
    for row, (ids, kept) in enumerate(zip(golden["input_ids"], golden["attention_mask"].bool(), strict=True)):
        tokens = ids[kept].tolist()
        spliced = [t for token in tokens for t in ([IMAGE] * PATCHES if token == -200 else [token])]
        pixels = {"pixel_values": golden["images"][row : row + 1].float()} if -200 in tokens else {}
        logits = model(input_ids=torch.tensor([spliced]), **pixels).logits[0]
        seen = golden["mask_spliced"][row]
        torch.testing.assert_close(logits[:, :ROWS], golden["logits"][row][seen], atol=5e-5, rtol=0)
        assert logits.shape[-1] == 192


def test_processor_and_model_fit_and_generate(model, processor):
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]}]
    text = processor.apply_chat_template(prompt, add_generation_prompt=True)
    inputs = processor(images=Image.new("RGB", (90, 40), (200, 30, 30)), text=text, return_tensors="pt")
    assert (inputs["input_ids"] == IMAGE).sum() == PATCHES and inputs["input_ids"][0, 0] == 1
    made = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert made.shape[1] > inputs["input_ids"].shape[1]
    assert processor.tokenizer.padding_side == "right" and processor.tokenizer.pad_token_id == 0
    assert model.generation_config.pad_token_id == 0 and model.generation_config.eos_token_id == 2


@pytest.mark.parametrize("weight_format", ["bin", "safetensors"])
def test_there_and_back_is_bit_for_bit_the_original(converted, tmp_path, weight_format):
    done = run(converted, tmp_path / "back", "--format", weight_format)
    assert done.exit_code == 0, done.output
    assert "64 rows from 128 on taken off the vocabulary" in words_of(done)
    for read, place in ((read_weights, ""), (read_tensors, "mm_projector.bin")):
        there, back = read(CHECKPOINT / place), read(tmp_path / "back" / place)
        assert there.keys() == back.keys()
        assert all(torch.equal(there[name], back[name]) for name in there)
    config, golden = ((at / "config.json").read_text() for at in (tmp_path / "back", CHECKPOINT))
    assert json.loads(config) == json.loads(golden)
    assert (tmp_path / "back" / "tokenizer.model").read_bytes() == (TOKENIZER / "tokenizer.model").read_bytes()


def test_the_table_says_what_went_where(tmp_path):
    done = run(CHECKPOINT, tmp_path / "out", *GIVEN, "--dtype", "bfloat16")
    said = words_of(done)
    assert "model.vision_tower 55 45,152" in said and "model.multi_modal_projector 4 3,936" in said
    assert "all 80 tensors have their place; bfloat16" in said
    assert "image token: 128; 64 rows added to 128, each the mean of the others" in said
    assert {tensor.dtype for tensor in read_weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_the_vocabulary_can_be_kept(tmp_path):
    done = run(CHECKPOINT, tmp_path / "out", *GIVEN, "--keep-vocabulary")
    assert "image token: 128, without a row" in words_of(done)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert model.lm_head.out_features == 128 and model.config.image_token_id == 128


def test_a_dry_run_checks_all_and_writes_nothing(tmp_path, source):
    before = sorted(tmp_path.rglob("*"))
    done = run(source, tmp_path / "out", *GIVEN, "--dry-run")
    assert done.exit_code == 0 and "nothing written (--dry-run)" in words_of(done)
    (source / "pytorch_model-00002-of-00002.bin").unlink()
    assert run(source, tmp_path / "out", *GIVEN, "--dry-run").exit_code == 2
    assert sorted(tmp_path.rglob("*")) == [path for path in before if path.exists()]


def test_a_directory_is_replaced_only_if_asked_and_only_a_models(tmp_path, converted):
    out = Path(shutil.copytree(converted, tmp_path / "out"))
    refused = run(CHECKPOINT, out, *GIVEN)
    assert refused.exit_code == 2 and "exists: give another place, or --overwrite" in words_of(refused)
    (out / "old.txt").write_text("old")
    assert run(CHECKPOINT, out, *GIVEN, "--overwrite").exit_code == 0
    assert not (out / "old.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("mine")
    kept = run(CHECKPOINT, home, *GIVEN, "--overwrite")
    assert kept.exit_code == 2 and "is no model directory" in words_of(kept) and (home / "letter.txt").exists()


def test_derived_buffers_are_named_and_sampling_values_that_cannot_be_saved_are_left_out(tmp_path, source):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    state = read_weights(source) | {name: torch.zeros(6)}
    rewrite(source, state)
    (source / "generation_config.json").write_text(json.dumps({"temperature": 0.9, "top_p": 0.6, "max_length": 4096}))
    done = run(source, tmp_path / "out", *GIVEN)
    assert done.exit_code == 0, done.output
    assert f"derived from the config, left out: {name}" in words_of(done)
    assert "left out of generation_config.json: temperature, top_p" in words_of(done)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["max_length"] == 4096


def rewrite(directory: Path, state: dict[str, torch.Tensor]) -> None:
    for shard in directory.glob("pytorch_model*"):
        shard.unlink()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / "model.safetensors")


def lose_shards(source: Path) -> None:
    for shard in source.glob("pytorch_model-*"):
        shard.unlink()


def add_keys(source: Path) -> None:
    extra = {"model.layers.9.x": torch.zeros(1), "model.vlm_uni.0": torch.zeros(1)}
    rewrite(source, read_weights(source) | extra)


def bend_shapes(source: Path) -> None:
    bent = {"lm_head.weight": torch.zeros(130, 48), "model.norm.weight": torch.zeros(47)}
    rewrite(source, read_weights(source) | bent)


def lose_keys(source: Path) -> None:
    lost = ("model.norm.weight", "model.mm_projector.0.bias")
    rewrite(source, {name: tensor for name, tensor in read_weights(source).items() if name not in lost})
    (source / "mm_projector.bin").unlink()


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


def pickle_code(source: Path) -> None:
    torch.save({"lm_head.weight": Payload()}, source / "pytorch_model-00001-of-00002.bin")


def point_outside(source: Path) -> None:
    index = source / "pytorch_model.bin.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] |= {"lm_head.weight": "../../secret.bin", "model.norm.weight": "/etc/passwd"}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lose_shards, ["lacks the shard", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]),
        (add_keys, ["keys with no place in the model", "layers.9.x", "model.vlm_uni.0"]),
        (bend_shapes, ["shapes that do not fit", "lm_head.weight (130, 48) for (128, 48)", "norm.weight (47,)"]),
        (lose_keys, ["parameters that got no value", "language_model.norm.weight", "linear_1.bias"]),
        (pickle_code, ["pytorch_model-00001-of-00002.bin cannot be read as a file of plain tensors"]),
        (point_outside, ["wanted a file beside it", "'../../secret.bin'", "'/etc/passwd'"]),
    ],
)
def test_a_broken_source_is_one_line_that_names_all_and_leaves_nothing(tmp_path, source, monkeypatch, break_it, named):
    monkeypatch.chdir(tmp_path)
    break_it(source)
    refused = run(source, tmp_path / "out", *GIVEN)
    assert refused.exit_code == 2
    message = refused.output.strip().splitlines()
    assert len(message) == 2 and message[1] == "(--debug shows where in the code)"
    assert all(name in message[0] for name in named)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "original"), "is in the layout original already"),
        (("--to", "gguf"), "--to gguf: wanted hf or original"),
        (("--dtype", "int8"), "--dtype int8: wanted float32, float16, bfloat16"),
        (("--format", "bin"), "--format has no effect here"),
        (("--base", TOWERS), "--base"),
        (("--tokenizer", GOLDEN / "llama_like_tokenizer"), "the tokenizer has 32000 words and the model 128 rows"),
        (("--tokenizer", TOWERS), "no tokenizer in"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, words, message):
    given = GIVEN if "--tokenizer" not in words else GIVEN[:2]
    refused = run(CHECKPOINT, tmp_path / "out", *given, *words)
    assert refused.exit_code == 2 and message in words_of(refused)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--tower-root", TOWERS), ("--base", TOWERS), ("--keep-vocabulary",)])
def test_on_the_way_back_settings_without_effect_are_refused(converted, tmp_path, words):
    refused = run(converted, tmp_path / "out", *words)
    assert refused.exit_code == 2 and f"{words[0]} has no effect here" in words_of(refused)


def test_a_source_without_a_tokenizer_asks_for_one(tmp_path):
    refused = run(CHECKPOINT, tmp_path / "out", "--tower-root", TOWERS)
    assert refused.exit_code == 2 and "give --tokenizer DIR" in words_of(refused)


def test_a_hugging_face_directory_may_hold_derived_buffers_and_no_other_key(converted, tmp_path):
    source = Path(shutil.copytree(converted, tmp_path / "source"))
    state = read_weights(source)
    derived = "vision_tower.vision_model.embeddings.position_ids"
    rewrite(source, state | {derived: torch.arange(17)[None]})
    done = run(source, tmp_path / "out")
    assert done.exit_code == 0 and "position_ids" in words_of(done)
    rewrite(source, state | {"extra.weight": torch.zeros(1)})
    refused = run(source, tmp_path / "again")
    assert refused.exit_code == 2 and "extra.weight" in words_of(refused)


@pytest.mark.parametrize("name", ["lm_head.weight", "multi_modal_projector.linear_1.bias"])
def test_a_hugging_face_directory_with_a_wrong_shape_is_refused_in_one_line(converted, tmp_path, name):
    source = Path(shutil.copytree(converted, tmp_path / "source"))
    state = read_weights(source)
    inside = next(key for key in state if key.endswith(name))
    rewrite(source, state | {inside: torch.zeros(3, 5)})
    refused = run(source, tmp_path / "out")
    assert refused.exit_code == 2 and name in words_of(refused)
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_directory_that_is_not_whole_is_refused(converted, tmp_path):
    broken = Path(shutil.copytree(converted, tmp_path / "broken"))
    state = read_weights(broken)
    lost = next(name for name in state if "linear_1.bias" in name)
    rewrite(broken, {name: tensor for name, tensor in state.items() if name != lost})
    refused = run(broken, tmp_path / "out")
    assert refused.exit_code == 2 and "linear_1.bias" in words_of(refused)
    assert not (tmp_path / "out").exists()
