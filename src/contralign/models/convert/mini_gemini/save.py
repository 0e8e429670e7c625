"""A Mini-Gemini written as its authors' code reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.clip_tower import tower_digest
from contralign.models.convert.mini_gemini.config import original_config
from contralign.models.convert.mini_gemini.load import HEAD
from contralign.models.convert.mini_gemini.names import original_names
from contralign.models.mini_gemini import MiniGeminiForConditionalGeneration


def save_original_mini_gemini(
    model: MiniGeminiForConditionalGeneration, folder: str | Path, max_shard_size: str = "5GB"
) -> None:
    """Write a checkpoint that the original code reads: config.json, safetensors in shards, and their index.

    The language model comes first. Everything that sees pictures lies in the last shard together: the original takes
    the CLIP tower from such shards alone as also hold mining or the ConvNeXt. A head that is tied to the embedding is
    not written. A model that was converted from an original keeps the settings that it came with.

    Args:
        model: its tensors are written as they are.
        folder: made if need be; must be empty.
        max_shard_size: of the language model's files.

    Raises:
        ConversionError: the folder is not empty, or the original layout cannot express the model.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionError(f"{folder} is not empty: give a new folder, so that no file of another checkpoint stays")
    changed = model.config.original_aux_tower != tower_digest(model.model.vision_tower_aux)
    dtype = str(next(iter(model.parameters())).dtype).removeprefix("torch.")
    settings = original_config(model.config, dtype, aux_tower_changed=changed)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state[HEAD]
    names = original_names(state)
    folder.mkdir(parents=True, exist_ok=True)
    _write_shards(
        {names[name]: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder, max_shard_size
    )
    _write_json(folder / "config.json", settings)


def _write_shards(state: Mapping[str, Tensor], folder: Path, max_shard_size: str) -> None:
    text = {name: tensor for name, tensor in state.items() if _is_text(name)}
    split = split_torch_state_dict_into_shards(text, max_shard_size=max_shard_size)
    shards = [*split.filename_to_tensors.values(), [name for name in state if name not in text]]
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(folder / "model.safetensors.index.json", index)


def _is_text(name: str) -> bool:
    return name.startswith(("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
