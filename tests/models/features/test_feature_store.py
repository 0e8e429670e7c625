"""Tensors by key: bounded, shared through a folder, never wrong."""

import pytest
import torch

from contralign.models.features.feature_store import GIB, FeatureStore, StoreCounts


def tensor(number):
    return torch.full((4, 8), float(number))  # 128 bytes


def test_what_was_put_is_found_and_counted():
    store = FeatureStore()
    assert store.get("aa") is None
    store.put("aa", tensor(1))
    assert torch.equal(store.get("aa"), tensor(1))
    assert store.counts == StoreCounts(in_memory=1, missing=1)
    assert store.bytes == 128


def test_a_full_memory_keeps_what_it_has_and_says_so_once(caplog):
    store = FeatureStore(max_gib=300 / GIB)
    for number, key in enumerate(("aa", "bb", "cc", "dd")):
        store.put(key, tensor(number))
    assert torch.equal(store.get("bb"), tensor(1))
    assert store.get("cc") is None
    assert store.bytes == 256
    assert store.counts.not_kept == 2
    assert caplog.text.count("the feature cache is full: 2 pictures") == 1


def test_a_folder_is_shared_and_serves_what_memory_turned_away(tmp_path):
    first = FeatureStore(max_gib=130 / GIB, folder=tmp_path / "features")
    first.put("aa", tensor(1))
    first.put("bb", tensor(2).bfloat16())
    assert torch.equal(first.get("bb"), tensor(2).bfloat16())
    second = FeatureStore(folder=tmp_path / "features")
    assert torch.equal(second.get("aa"), tensor(1))
    assert torch.equal(second.get("aa"), tensor(1))
    assert second.get("bb").dtype == torch.bfloat16
    assert second.counts == StoreCounts(in_memory=1, in_folder=2)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["aa.safetensors", "bb.safetensors"]


def test_a_broken_file_is_named(tmp_path):
    store = FeatureStore(folder=tmp_path)
    store.put("aa", tensor(1))
    (tmp_path / "aa" / "aa.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"aa\.safetensors is broken .*: delete it"):
        FeatureStore(folder=tmp_path).get("aa")


def test_a_bound_must_be_above_zero():
    with pytest.raises(ValueError, match="max_gib=0: wanted a number above 0"):
        FeatureStore(max_gib=0)
