"""The CLIP tower of an original checkpoint: its architecture stands in another directory, its weights in either."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig

from contralign.models.convert.checkpoint import ConversionError, read_json, read_weights
from contralign.models.convert.hub_cache import cached_snapshot

KNOWN_TOWERS = {
    "openai/clip-vit-large-patch14-336": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
    }
}
"""Architectures of towers that are named by their hub name, for checkpoints that carry the weights themselves."""


CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_DEVIATION = [0.26862954, 0.26130258, 0.27577711]


def clip_settings(side: int) -> dict[str, Any]:
    """CLIP's own treatment of a picture, for a tower of `side` pixels."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_DEVIATION,
        "do_convert_rgb": True,
    }


def tower_directory(original: Mapping[str, Any], tower_root: str | Path | None) -> Path:
    """Where the tower lies if it lies anywhere.

    Args:
        original: names it, as `mm_vision_tower`.
        tower_root: what that name is relative to; None takes it as a path, or as a hub name that is in the cache.

    Raises:
        ConversionError: the config names no tower.
    """
    name = original.get("mm_vision_tower")
    if not isinstance(name, str) or not name:
        raise ConversionError("config.json has no mm_vision_tower: the tower's architecture is not known without it")
    if tower_root is not None:
        return Path(tower_root) / name
    here = Path(name)
    return here if here.is_dir() else cached_snapshot(name) or here


def tower_config(original: Mapping[str, Any], tower: Path) -> CLIPVisionConfig:
    """The tower's architecture: from its directory, or known by its hub name.

    Raises:
        ConversionError: neither, or it is no CLIP tower.
    """
    name = original["mm_vision_tower"]
    if not tower.is_dir():
        if name in KNOWN_TOWERS:
            return CLIPVisionConfig(**KNOWN_TOWERS[name])
        raise ConversionError(
            f"the vision tower {name!r} is not at {tower}: give tower_root, the directory that this name is relative to"
        )
    settings = read_json(tower / "config.json")
    if settings.get("model_type") == "clip":
        settings = {"model_type": "clip_vision_model", **settings.get("vision_config", {})}
    if settings.get("model_type") != "clip_vision_model":
        raise ConversionError(f"{tower} has model_type={settings.get('model_type')!r}: wanted a CLIP tower")
    return CLIPVisionConfig.from_dict(settings)


def tower_weights(original: Mapping[str, Any], tower: Path) -> dict[str, Tensor]:
    """The tower's weights from its own directory, under the names they have inside a checkpoint.

    Of a whole CLIP the text half is left out. Newer versions of transformers save a tower without `vision_model.`.

    Raises:
        ConversionError: there are none, or the tower was trained and these are not its weights.
    """
    if original.get("unfreeze_mm_vision_tower"):
        raise ConversionError(
            "config.json says that the vision tower was trained (unfreeze_mm_vision_tower), and the checkpoint does "
            f"not hold it: the untrained one at {tower} would be wrong"
        )
    if not tower.is_dir():
        raise ConversionError(
            f"neither the checkpoint nor {tower} holds the vision tower: download {original['mm_vision_tower']} and "
            "give tower_root, the directory that this name is relative to"
        )
    state = read_weights(tower)
    inside = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    if not inside:
        inside = {f"vision_model.{name}": tensor for name, tensor in state.items()}
    return {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in inside.items()}


def tower_digest(tower: nn.Module) -> str:
    """SHA-256 of all weights of a tower: tells whether it was trained since."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
