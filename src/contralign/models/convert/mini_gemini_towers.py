"""The two towers of a Mini-Gemini in directories of their own: what they are, and their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPVisionConfig, ConvNextConfig

from contralign.models.convert.checkpoint import ConversionError, read_json, read_tensors, read_weights
from contralign.models.convert.mini_gemini_names import AUX_TOWER, rename_mini_gemini_keys
from contralign.models.mini_gemini.configuration import CLIP_LARGE

CLIP_TOWER = "model.vision_tower.vision_tower."
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_PARTS = {"visual.trunk.stem.": "vision_stem.", "visual.trunk.stages.": "vision_stages."}

KNOWN_CLIP_TOWERS = {"clip-vit-large-patch14-336": CLIP_LARGE}
"""By the last part of the name, hub repository or directory, for checkpoints that carry the weights themselves."""

CLIP_NAME = "model_zoo/OpenAI/clip-vit-large-patch14-336"
CONVNEXT_NAME = "model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"
"""What the published Mini-Gemini call their towers. On the hub they are openai/clip-vit-large-patch14-336 and
laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup; the original code tells a tower's kind by these names."""


def clip_config(name: str, directory: Path) -> CLIPVisionConfig:
    """Architecture of the CLIP tower: from its directory, or known by its name.

    Raises:
        ConversionError: it is neither there nor known, or no CLIP tower.
    """
    if not directory.is_dir():
        known = KNOWN_CLIP_TOWERS.get(Path(name).name)
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
    """Weights of the CLIP tower, named as inside an original checkpoint; of a whole CLIP the text half is left out.

    Raises:
        ConversionError: there are none.
    """
    _must_be_there("CLIP tower", name, directory)
    state = read_weights(directory)
    inside = {key: tensor for key, tensor in state.items() if key.startswith("vision_model.")}
    if not inside:  # newer versions of transformers save a tower without this level
        inside = {f"vision_model.{key}": tensor for key, tensor in state.items()}
    return {CLIP_TOWER + key: tensor for key, tensor in inside.items()}


def convnext_weights(name: str, directory: Path) -> dict[str, Tensor]:
    """Weights of the ConvNeXt's trunk, named as inside an original checkpoint.

    An open_clip file holds a whole CLIP; its text half, and the head and last norm of its trunk, are left out, as the
    original leaves them out.

    Raises:
        ConversionError: there are none.
    """
    _must_be_there("ConvNeXt tower", name, directory)
    file = next((directory / each for each in OPEN_CLIP_FILES if (directory / each).is_file()), None)
    if file is None:
        raise ConversionError(
            f"no weights in {directory}: wanted {' or '.join(OPEN_CLIP_FILES)}, as open_clip saves them"
        )
    trunk = {}
    for key, tensor in read_tensors(file).items():
        for begins, becomes in OPEN_CLIP_PARTS.items():
            if key.startswith(begins):
                trunk[AUX_TOWER + becomes + key.removeprefix(begins)] = tensor
    if not trunk:
        raise ConversionError(
            f"{file} holds no visual.trunk.stem and visual.trunk.stages: wanted a CLIP with a ConvNeXt"
        )
    return trunk


def convnext_tower(directory: Path) -> tuple[ConvNextConfig, dict[str, Tensor]]:
    """A tower for a new model from an open_clip directory.

    Returns:
        Its config, but for the picture's size and DropPath, which are the model's; and the state dict of a
        `MiniGeminiAuxTower`.

    Raises:
        ConversionError: no such tower is there.
    """
    renamed, unplaced = rename_mini_gemini_keys(convnext_weights(str(directory), directory))
    assert not unplaced, unplaced
    state = {key.removeprefix(AUX_TOWER): tensor for key, tensor in renamed.items()}
    return ConvNextConfig(**convnext_settings(state)), state


def convnext_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Architecture of a ConvNeXt, read off its weights: the original knows it only by the directory's name.

    Args:
        state: by the names inside `MiniGeminiAuxTower`.

    Raises:
        ConversionError: stem or stages are not there.
    """
    stem = state.get("embeddings.patch_embeddings.weight")
    pattern = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.weight")
    blocks = {match.groups(): tensor for name, tensor in state.items() if (match := pattern.fullmatch(name))}
    stages = sorted({int(stage) for stage, _ in blocks})
    if stem is None or stages != list(range(len(stages))) or not stages:
        raise ConversionError("the ConvNeXt has no stem, or stages are missing: copy the tower's weights again")
    return {
        "num_channels": stem.shape[1],
        "patch_size": stem.shape[-1],
        "num_stages": len(stages),
        "hidden_sizes": [blocks[str(stage), "0"].shape[0] for stage in stages],
        "depths": [sum(int(of) == stage for of, _ in blocks) for stage in stages],
    }


def _must_be_there(what: str, name: str, directory: Path) -> None:
    if not directory.is_dir():
        raise ConversionError(
            f"neither the checkpoint nor {directory} holds the {what}: download {name} and give tower_root, the "
            "directory that this name is relative to"
        )
