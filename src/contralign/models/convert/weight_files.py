"""Weights written as the original trainers write them: shards with an index, safetensors or plain-tensor pickles."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

WeightFormat = Literal["safetensors", "bin"]
STEMS: dict[str, tuple[str, str]] = {"safetensors": ("model", "safetensors"), "bin": ("pytorch_model", "bin")}
SHARD_BYTES = 5 * 2**30


def write_weights(
    state: Mapping[str, Tensor], directory: Path, weight_format: WeightFormat, shard_bytes: int = SHARD_BYTES
) -> list[str]:
    """Write tensors in shards, and the index that the original loader looks for.

    Args:
        state: by the names in the file. Tensors that are parts of others are copied, one shard at a time.
        directory: where to.
        weight_format: safetensors or bin.
        shard_bytes: a shard is closed before it would hold more, unless one tensor alone does.

    Returns:
        Names of the files.

    Raises:
        ValueError: an unknown format.
    """
    if weight_format not in STEMS:
        raise ValueError(f"format {weight_format!r}: wanted {' or '.join(get_args(WeightFormat))}")
    return write_shards(state, list(_shards(state, shard_bytes)), directory, weight_format)


def write_shards(
    state: Mapping[str, Tensor], groups: Sequence[Sequence[str]], directory: Path, weight_format: WeightFormat
) -> list[str]:
    """Write groups of tensors, one file each, and their index; the rest is as of `write_weights`."""
    stem, ending = STEMS[weight_format]
    names = [f"{stem}-{at:05d}-of-{len(groups):05d}.{ending}" for at in range(1, len(groups) + 1)]
    for name, group in zip(names, groups, strict=True):
        write_tensors({key: state[key] for key in group}, directory / name)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in state.values())},
        "weight_map": {key: name for name, group in zip(names, groups, strict=True) for key in group},
    }
    (directory / f"{stem}.{ending}.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return names


def write_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """One file of tensors; the ending says which kind. A part of a larger tensor is written without the rest of it."""
    whole = {name: _own_storage(tensor.detach().cpu()) for name, tensor in state.items()}
    if path.suffix == ".safetensors":
        save_file(whole, path, metadata={"format": "pt"})
    else:
        torch.save(whole, path)


def _own_storage(tensor: Tensor) -> Tensor:
    shared = tensor.untyped_storage().nbytes() != tensor.nbytes
    return tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()


def _shards(state: Mapping[str, Tensor], shard_bytes: int) -> Iterator[list[str]]:
    group: list[str] = []
    held = 0
    for name, tensor in state.items():
        if group and held + tensor.nbytes > shard_bytes:
            yield group
            group, held = [], 0
        group.append(name)
        held += tensor.nbytes
    if group:
        yield group
