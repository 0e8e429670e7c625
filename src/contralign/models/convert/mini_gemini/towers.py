"""The ConvNeXt of a Mini-Gemini in a directory of its own: what it is, and its weights. Its CLIP: `clip_tower`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import ConvNextConfig

from contralign.models.convert.checkpoint import ConversionError, read_tensors
from contralign.models.convert.clip_tower import check_tower_directory
from contralign.models.convert.mini_gemini.names import AUX_TOWER, rename_mini_gemini_keys
from contralign.models.convert.original_layout import rename_keys, with_prefix

OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPEN_CLIP_PARTS = {
    "visual.trunk.stem.": f"{AUX_TOWER}vision_stem.",
    "visual.trunk.stages.": f"{AUX_TOWER}vision_stages.",
}

CLIP_NAME = "model_zoo/OpenAI/clip-vit-large-patch14-336"
CONVNEXT_NAME = "model_zoo/OpenAI/openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"
"""The published Mini-Gemini's names of their towers, by which the original code tells their kind."""


def convnext_weights(name: str, directory: Path) -> dict[str, Tensor]:
    """Weights of the ConvNeXt's trunk, named as inside an original checkpoint.

    An open_clip file holds a whole CLIP; its text half, and the head and last norm of its trunk, are left out, as the
    original leaves them out.

    Raises:
        ConversionError: there are none.
    """
    check_tower_directory("ConvNeXt tower", name, directory)
    file = next((directory / each for each in OPEN_CLIP_FILES if (directory / each).is_file()), None)
    if file is None:
        raise ConversionError(
            f"no weights in {directory}: wanted {' or '.join(OPEN_CLIP_FILES)}, as open_clip saves them"
        )
    trunk, _ = rename_keys(read_tensors(file), lambda name: with_prefix(name, OPEN_CLIP_PARTS))
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
