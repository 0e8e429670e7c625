"""Checkpoint directories as the original trainers left them: config.json and whole or sharded weight files.

Nothing is unpickled beyond plain tensors, and no file outside the directory is read.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE_FILES = ("model.safetensors", "pytorch_model.bin")
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, SafetensorError, pickle.UnpicklingError)
"""What the two readers raise on bytes that are not theirs."""


class ConversionError(ValueError):
    """A checkpoint cannot be read without a loss or a guess; the message names every part that stands in the way."""


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file.

    Raises:
        ConversionError: the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing: wanted a checkpoint directory with this file in it") from None
    except ValueError as error:
        raise ConversionError(f"{path} is not JSON ({error}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds a {type(content).__name__}: wanted a JSON object")
    return content


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, by its name in the file, on the CPU and in the precision of the file.

    Looks for an index of shards first, then for one whole file; safetensors come before pickled files.

    Raises:
        ConversionError: there are no weights, a shard is missing, unreadable or outside the directory, or the index
            promises a tensor that its shard lacks.
    """
    for name in INDEX_FILES:
        if (directory / name).is_file():
            return _read_shards(directory, name)
    for name in WHOLE_FILES:
        if (directory / name).is_file():
            return read_tensors(directory / name)
    raise ConversionError(f"no weights in {directory}: wanted one of {', '.join(INDEX_FILES + WHOLE_FILES)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file: safetensors, or a pickle that may hold tensors alone.

    Raises:
        ConversionError: the file cannot be read as such.
    """
    with conversion_errors(path):
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ConversionError(f"{path} holds more than named tensors: wanted a saved state dict")
    return dict(tensors)


@contextmanager
def conversion_errors(path: Path) -> Iterator[None]:
    """What the readers raise on bytes that are not theirs, as one line that names the file.

    Raises:
        ConversionError: the block raised it.
    """
    try:
        yield
    except UNREADABLE as error:
        said = " ".join(str(error).split())
        raise ConversionError(
            f"{path} cannot be read as {'a model' if path.is_dir() else 'a file of plain tensors'} ({said[:200]}): "
            "copy the checkpoint again"
        ) from error


def tensor_names(directory: Path) -> list[str]:
    """Names of all tensors of a checkpoint; only an index or a file's header is read where there is one.

    Raises:
        ConversionError: see `read_weights`.
    """
    for name in INDEX_FILES:
        if (directory / name).is_file():
            return sorted(_weight_map(directory, name))
    whole = directory / WHOLE_FILES[0]
    if whole.is_file():
        with conversion_errors(whole), safe_open(whole, framework="pt") as file:
            return sorted(file.keys())
    return sorted(read_weights(directory))


def _read_shards(directory: Path, index_name: str) -> dict[str, Tensor]:
    weight_map = _weight_map(directory, index_name)
    state: dict[str, Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        state |= read_tensors(directory / shard)
    absent = sorted(set(weight_map) - set(state))
    if absent:
        raise ConversionError(f"{directory}: {index_name} promises tensors that no shard holds: {', '.join(absent)}")
    return state


def _weight_map(directory: Path, index_name: str) -> dict[str, str]:
    """Tensor name -> file beside the index, every one of them there."""
    weight_map = read_json(directory / index_name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConversionError(f"{directory / index_name} has no weight_map: copy the checkpoint again")
    shards = sorted({str(shard) for shard in weight_map.values()})
    outside = [repr(shard) for shard in shards if Path(shard).name != shard]
    if outside:
        raise ConversionError(f"{directory / index_name} names the shard {', '.join(outside)}: wanted a file beside it")
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing:
        raise ConversionError(
            f"{directory} lacks the shard {', '.join(missing)}, which {index_name} names: copy it again"
        )
    return {name: str(shard) for name, shard in weight_map.items()}


def fill_parameters(model: nn.Module, state: Mapping[str, Tensor], unplaced: Iterable[str], dtype: torch.dtype) -> None:
    """Give every parameter of a model its value, or none of them.

    Args:
        model: built without initialisation; what its parameters hold is thrown away.
        state: tensors by the model's own names.
        unplaced: names that found no place in the model, for the message.
        dtype: of all parameters afterwards.

    Raises:
        ConversionError: a key was not placed, a parameter got no value, or a shape does not fit; all are listed.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    problems = {
        "keys with no place in the model": sorted([*unplaced, *(name for name in state if name not in shapes)]),
        "parameters that got no value": sorted(name for name in shapes if name not in state),
        "shapes that do not fit": sorted(
            f"{name} {tuple(state[name].shape)} for {shape}"
            for name, shape in shapes.items()
            if name in state and tuple(state[name].shape) != shape
        ),
    }
    found = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if found:
        raise ConversionError("this checkpoint does not fill this model. " + "; ".join(found))
    model.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
