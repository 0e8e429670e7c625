import pytest
import torch

from contralign.models.convert.checkpoint import read_weights
from contralign.models.convert.weight_files import write_tensors, write_weights

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(100)}


@pytest.mark.parametrize("weight_format", ["safetensors", "bin"])
@pytest.mark.parametrize(("shard_bytes", "files"), [(1, 3), (40, 2), (10**6, 1)])
def test_what_is_written_is_read_back_however_it_is_cut(tmp_path, weight_format, shard_bytes, files):
    assert len(write_weights(STATE, tmp_path, weight_format, shard_bytes)) == files
    again = read_weights(tmp_path)
    assert again.keys() == STATE.keys()
    assert all(again[name].dtype == STATE[name].dtype and torch.equal(again[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors"])
def test_a_part_of_a_tensor_is_written_without_the_rest(tmp_path, name):
    write_tensors({"few": torch.zeros(100_000)[:10], "turned": torch.arange(6.0).view(2, 3).t()}, tmp_path / name)
    assert (tmp_path / name).stat().st_size < 4000


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wanted safetensors or bin"):
        write_weights(STATE, tmp_path, "gguf")
