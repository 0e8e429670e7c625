import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from contralign.models.convert.checkpoint import ConversionError, fill_parameters, read_json, read_tensors, read_weights

STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


def write_index(directory: Path, weight_map: dict[str, str], name: str = "pytorch_model.bin.index.json") -> None:
    (directory / name).write_text(json.dumps({"weight_map": weight_map}))


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_whole_and_sharded_files_of_both_kinds_read_the_same(tmp_path):
    for kind in ("whole_bin", "whole_safe", "shards_bin", "shards_safe"):
        (tmp_path / kind).mkdir()
    torch.save(STATE, tmp_path / "whole_bin" / "pytorch_model.bin")
    save_file(STATE, tmp_path / "whole_safe" / "model.safetensors")
    for name in STATE:
        torch.save({name: STATE[name]}, tmp_path / "shards_bin" / f"{name}.bin")
        save_file({name: STATE[name]}, tmp_path / "shards_safe" / f"{name}.safetensors")
    write_index(tmp_path / "shards_bin", {name: f"{name}.bin" for name in STATE})
    write_index(
        tmp_path / "shards_safe", {name: f"{name}.safetensors" for name in STATE}, "model.safetensors.index.json"
    )
    for directory in tmp_path.iterdir():
        assert same(read_weights(directory), STATE), directory.name


def test_a_directory_without_weights_says_what_was_wanted(tmp_path):
    with pytest.raises(ConversionError, match=r"pytorch_model\.bin\.index\.json"):
        read_weights(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_index(tmp_path, {"a": "gone.bin"})
    with pytest.raises(ConversionError, match=r"lacks the shard gone\.bin"):
        read_weights(tmp_path)


@pytest.mark.parametrize("shard", ["../outside.bin", "/etc/passwd", "sub/inside.bin", ".."])
def test_a_shard_outside_the_directory_is_refused(tmp_path, shard):
    (tmp_path / "inner").mkdir()
    torch.save(STATE, tmp_path / "outside.bin")
    write_index(tmp_path / "inner", {"a": shard})
    with pytest.raises(ConversionError, match=r"wanted a file beside it|lacks the shard"):
        read_weights(tmp_path / "inner")


def test_a_tensor_that_the_index_promises_and_no_shard_holds_is_named(tmp_path):
    torch.save({"a": STATE["a"]}, tmp_path / "a.bin")
    write_index(tmp_path, {"a": "a.bin", "b": "a.bin"})
    with pytest.raises(ConversionError, match="promises tensors that no shard holds: b"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_an_index_without_a_map_is_refused(tmp_path, content):
    (tmp_path / "pytorch_model.bin.index.json").write_text(content)
    with pytest.raises(ConversionError, match="no weight_map"):
        read_weights(tmp_path)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="plain tensors"):
        read_weights(tmp_path)
    (tmp_path / "raw.bin").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ConversionError, match="plain tensors"):
        read_tensors(tmp_path / "raw.bin")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not tensors at all", b"PK\x03\x04broken"])
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConversionError, match="copy the checkpoint again"):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(1)], {"module": {"a": torch.zeros(1)}}])
def test_a_file_of_more_than_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(ConversionError, match="more than named tensors"):
        read_tensors(tmp_path / "x.bin")


@pytest.mark.parametrize(("content", "message"), [("[1]", "holds a list"), ("{", "not JSON"), ("\xff", "not JSON")])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConversionError, match=message):
        read_json(tmp_path / "config.json")
    with pytest.raises(ConversionError, match="is missing"):
        read_json(tmp_path / "absent.json")


def test_a_model_is_filled_whole_or_not_at_all():
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(ConversionError, match=r"no place in the model: extra; parameters that got no value: bias$"):
        fill_parameters(model, {"weight": torch.zeros(2, 2)}, ["extra"], torch.float32)
    assert torch.equal(model.weight, before)
    fill_parameters(model, {"weight": torch.zeros(2, 2), "bias": torch.ones(2)}, [], torch.float64)
    assert model.weight.dtype == torch.float64 and model.bias.tolist() == [1, 1] and model.bias.requires_grad
