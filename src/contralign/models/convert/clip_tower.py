"""The CLIP tower of an original checkpoint: its architecture stands in another directory, its weights in either."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig

from contralign.models.convert.checkpoint import ConversionError, read_json, read_weights
from contralign.models.convert.sources import cached_snapshot
from contralign.models.published_towers import CLIP_DEVIATION, CLIP_L_336, CLIP_LARGE, CLIP_MEAN

CLIP_TOWER = "model.vision_tower.vision_tower."
"""Where a tower's weights stand in an original checkpoint."""

PUBLISHED_CLIPS = {Path(CLIP_L_336).name: CLIP_LARGE}
"""By the last part of the name, hub repository or directory, for checkpoints that carry the weights themselves."""


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


def clip_config(name: str, directory: Path) -> CLIPVisionConfig:
    """Architecture of a CLIP tower: from its directory, or known by its name.

    Raises:
        ConversionError: it is neither there nor known, or no CLIP tower.
    """
    if not directory.is_dir():
        known = PUBLISHED_CLIPS.get(Path(name).name)
        if known is None:
            raise ConversionError(
                f"the CLIP tower {name!r} is not at {directory}: give tower_root, the directory that this name is "
                "relative to"
            )
        return CLIPVisionConfig(**known)
    settings = read_json(directory / "config.json")
    if settings.get("model_type") == "clip":
        settings = {"model_type": "clip_vision_model", **settings.get("vision_config", {})}
    if settings.get("model_type") != "clip_vision_model":
        raise ConversionError(f"{directory} has model_type={settings.get('model_type')!r}: wanted a CLIP tower")
    return CLIPVisionConfig.from_dict(settings)


def clip_weights(name: str, directory: Path) -> dict[str, Tensor]:
    """Weights of a CLIP tower from its own directory, named as inside an original checkpoint.

    Of a whole CLIP the text half is left out. Newer versions of transformers save a tower without `vision_model.`.

    Raises:
        ConversionError: there are none.
    """
    check_tower_directory("CLIP tower", name, directory)
    state = read_weights(directory)
    inside = {key: tensor for key, tensor in state.items() if key.startswith("vision_model.")}
    if not inside:
        inside = {f"vision_model.{key}": tensor for key, tensor in state.items()}
    return {CLIP_TOWER + key: tensor for key, tensor in inside.items()}


def check_tower_directory(what: str, name: str, directory: Path) -> None:
    """Refuse a checkpoint without a tower whose own directory is not there either.

    Raises:
        ConversionError: with what to download.
    """
    if not directory.is_dir():
        raise ConversionError(
            f"neither the checkpoint nor {directory} holds the {what}: download {name} and give tower_root, the "
            "directory that this name is relative to"
        )


def tower_digest(tower: nn.Module) -> str:
    """SHA-256 of all weights of a tower: tells whether it was trained since."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
