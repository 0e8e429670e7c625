"""A model directory is read whole or refused by name; nothing of it runs."""

import io
import json
import random
import sys

import pytest
from safetensors.torch import load_file, save_file
from worlds.small_models import build_llava

from contralign.models.pretrained import UnusableModel, check_directory, load_config, load_whole_model
from contralign.models.small.tiny import build_tiny

SIZES = {"image_size": 32, "hidden": 32, "layers": 1, "tower_hidden": 32, "tower_layers": 1, "heads": 2}
FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
CODE = "open({mark!r}, 'w').close()\nclass Custom: pass\nCustomConfig = CustomProcessor = CustomTokenizer = Custom\n"


@pytest.fixture
def folder(tmp_path):
    build_tiny(["it is red and blue"], tmp_path / "model", vocab_size=300, **SIZES)
    return tmp_path / "model"


def change(path, **values):
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**settings, **values}))


@pytest.mark.parametrize("file", FILES)
def test_code_of_a_directory_never_runs_whatever_stands_on_the_input(file, folder, tmp_path, monkeypatch):
    mark = tmp_path / "it ran"
    (folder / "custom.py").write_text(CODE.format(mark=str(mark)))
    classes = {f"Auto{kind}": "custom.Custom" for kind in ("Config", "Processor", "Model", "ImageProcessor")}
    classes |= {"AutoModelForImageTextToText": "custom.Custom", "AutoTokenizer": ["custom.Custom", "custom.Custom"]}
    change(folder / file, auto_map=classes, model_type="brand_new", tokenizer_class="Brand", processor_class="Brand")
    change(folder / file, image_processor_type="Brand")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 50))
    from contralign.models.anyres.processors import load_processor

    for load in (load_whole_model, load_config, load_processor):
        try:
            load(folder)
        except (UnusableModel, OSError) as error:
            assert "\n" not in str(error) or isinstance(error, OSError)
    assert not mark.exists()
    assert sys.stdin.read() == "y\n" * 50


def test_an_architecture_that_is_not_in_transformers_is_named(folder):
    change(folder / "config.json", auto_map={"AutoConfig": "custom.Custom"}, model_type="brand_new")
    (folder / "custom.py").write_text("class Custom: pass")
    with pytest.raises(UnusableModel, match="brings code of its own, which is never run here"):
        load_whole_model(folder)


def test_an_architecture_that_transformers_has_needs_no_code_of_the_directory(folder, tmp_path):
    mark = tmp_path / "it ran"
    (folder / "custom.py").write_text(CODE.format(mark=str(mark)))
    change(folder / "config.json", auto_map={"AutoModelForImageTextToText": "custom.Custom"})
    assert type(load_whole_model(folder)).__name__ == "LlavaForConditionalGeneration"
    assert not mark.exists()


@pytest.mark.parametrize("place", ["config", "text_config", "vision_config"])
def test_attention_from_the_hub_is_refused(place, folder):
    config = json.loads((folder / "config.json").read_text())
    (config if place == "config" else config[place])["_attn_implementation"] = "somebody/kernels"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnusableModel, match="takes its attention from 'somebody/kernels'"):
        load_whole_model(folder)


@pytest.mark.parametrize("count", [1, 3])
def test_a_weight_that_is_missing_is_named(count, folder):
    weights = load_file(folder / "model.safetensors")
    gone = random.Random(0).sample(sorted(name for name in weights if name.endswith(".weight")), count)
    save_file(
        {name: weight for name, weight in weights.items() if name not in gone},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UnusableModel, match=f"lacks {count} weights of LlavaForConditionalGeneration, which would be"):
        load_whole_model(folder)


def test_a_head_that_is_the_embeddings_is_not_missing(tmp_path):
    build_llava(tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    assert load_whole_model(tmp_path / "tied").config.text_config.tie_word_embeddings


def test_a_weight_of_another_shape_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("q_proj.weight"))
    weights[name] = weights[name][:-1].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnusableModel, match=r"model cannot be read: "):
        load_whole_model(folder)


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""])
def test_an_index_that_leaves_the_directory_is_refused(file, folder):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": file}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnusableModel, match="wanted files beside it"):
        check_directory(folder)


@pytest.mark.parametrize(
    "index", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "\x00", "[" * 9999]
)
def test_a_damaged_index_is_named(index, folder):
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UnusableModel, match=r"model\.safetensors\.index\.json"):
        load_whole_model(folder)


def test_a_file_of_the_index_that_is_absent_is_named(folder):
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnusableModel, match="which is not there"):
        load_whole_model(folder)


def test_an_adapter_is_no_model(folder):
    change(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="somewhere")
    with pytest.raises(UnusableModel, match=r"holds an adapter .*merge_and_unload"):
        load_whole_model(folder)


ABSURD = [
    {"text_config": {"model_type": "llama"}},
    {"text_config": {"model_type": "llama", "num_hidden_layers": 10**12}},
    {"text_config": {"model_type": "llama", "vocab_size": 10**12}},
    {"text_config": None},
    {"text_config": []},
    {"text_config": {"model_type": "llama", "hidden_size": -3}},
    {"text_config": {"model_type": "llama", "hidden_size": "many"}},
    {"text_config": {"model_type": "llama", "num_attention_heads": 0}},
    {"vision_config": {"model_type": "clip_vision_model", "patch_size": 0}},
    {"model_type": 7},
    {"model_type": "llama"},
    {"vision_feature_layer": 10**9, "architectures": [3]},
    {"dtype": "no_such_type"},
]


@pytest.mark.parametrize("changes", ABSURD)
def test_an_absurd_configuration_is_one_named_error(changes, folder):
    change(folder / "config.json", **changes)
    try:
        load_whole_model(folder)
    except (UnusableModel, OSError) as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 9, b"\x08" + b"\x00" * 7 + b"{}      "])
def test_damaged_weights_are_one_named_error(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises((UnusableModel, OSError)):
        load_whole_model(folder)


def test_a_truncated_file_of_weights_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnusableModel, match=r"model cannot be read: SafetensorError"):
        load_whole_model(folder)
