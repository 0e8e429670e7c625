import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from contralign.models.convert import ConversionError, load_original_llava
from contralign.models.convert.checkpoint import read_weights
from contralign.models.convert.clip_tower import tower_directory
from contralign.models.convert.sources import find_source, whole_checkpoint

TOWERS = Path(__file__).parents[2] / "golden" / "ckpt"
CHECKPOINT = TOWERS / "llava15_tiny"


@pytest.fixture
def adapter(tmp_path) -> Path:
    """What stage 1 of LLaVA leaves: config.json and mm_projector.bin."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("config.json", "mm_projector.bin"):
        (folder / name).write_bytes((CHECKPOINT / name).read_bytes())
    return folder


@pytest.fixture
def base(tmp_path) -> Path:
    """The language model alone, as it is downloaded."""
    folder = tmp_path / "vicuna"
    folder.mkdir()
    state = {
        name: tensor.contiguous()
        for name, tensor in read_weights(CHECKPOINT).items()
        if "mm_projector" not in name and "vision_tower" not in name
    }
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def test_an_adapter_beside_its_base_is_a_whole_checkpoint(adapter, base, tmp_path):
    tower = tmp_path / "towers" / "openai-clip-tiny-patch14-56"
    tower.mkdir(parents=True)
    inner = "model.vision_tower.vision_tower."
    weights = {n.removeprefix(inner): t for n, t in read_weights(CHECKPOINT).items() if n.startswith(inner)}
    save_file(weights, tower / "model.safetensors")
    (tower / "config.json").write_bytes((TOWERS / "towers" / tower.name / "config.json").read_bytes())
    with whole_checkpoint(adapter, base) as whole:
        model = load_original_llava(whole, tmp_path)
    assert not whole.exists() and base.exists() and (adapter / "mm_projector.bin").exists()
    direct = load_original_llava(CHECKPOINT, TOWERS).state_dict()
    assert all(torch.equal(value, direct[name]) for name, value in model.state_dict().items())


def test_an_adapter_alone_asks_for_its_base(adapter):
    with (
        pytest.raises(ConversionError, match=r"adapter alone \(mm_projector\.bin\): give .* --base"),
        whole_checkpoint(adapter, None),
    ):
        pass


def test_a_base_that_is_not_needed_is_refused(base):
    with pytest.raises(ConversionError, match="has no effect"), whole_checkpoint(CHECKPOINT, base):
        pass


def test_a_base_without_weights_is_refused(adapter, tmp_path):
    with pytest.raises(ConversionError, match="holds no weights"), whole_checkpoint(adapter, tmp_path):
        pass


@pytest.mark.parametrize("name", ["non_lora_trainables.bin", "adapter_config.json"])
def test_a_lora_says_how_to_merge_it(adapter, base, name):
    (adapter / name).write_bytes(b"")
    with pytest.raises(ConversionError, match=rf"a LoRA \({name}\): merge it"), whole_checkpoint(adapter, base):
        pass


def test_a_folder_without_weights_says_what_was_wanted(tmp_path):
    with (
        pytest.raises(ConversionError, match=r"no weights: wanted one of model\.safetensors\.index\.json"),
        whole_checkpoint(tmp_path, None),
    ):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub cache with one model, laid out as the hub's client does: a snapshot of links to blobs."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--liuhaotian--llava-tiny"
    for folder in ("blobs", "refs", "snapshots/abc"):
        (model / folder).mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    for file in CHECKPOINT.iterdir():
        (model / "blobs" / file.name).write_bytes(file.read_bytes())
        (model / "snapshots" / "abc" / file.name).symlink_to(model / "blobs" / file.name)
    return model


def test_a_hub_name_is_looked_up_in_the_cache(cache):
    found = find_source("liuhaotian/llava-tiny")
    assert found == cache / "snapshots" / "abc"
    assert read_weights(found).keys() == read_weights(CHECKPOINT).keys()


def test_a_tower_is_looked_up_in_the_cache_by_its_hub_name(cache):
    assert tower_directory({"mm_vision_tower": "liuhaotian/llava-tiny"}, None) == cache / "snapshots" / "abc"
    assert tower_directory({"mm_vision_tower": "openai/absent"}, None) == Path("openai/absent")
    assert tower_directory({"mm_vision_tower": "openai/absent"}, "/root") == Path("/root/openai/absent")


@pytest.mark.parametrize("name", ["liuhaotian/absent", "no such folder/x y", "/absent/folder", "../../etc"])
def test_a_name_that_is_nowhere_says_how_to_get_it(cache, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # from two folders below the root ../../etc is a folder
    with pytest.raises(ConversionError, match="is no folder, and no model of that name is in the cache"):
        find_source(name)
