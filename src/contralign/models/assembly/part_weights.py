"""Weights of the parts, renamed to the parameters of the whole model.

Files are read raw and renamed, and the whole model is then filled: what a file lacks is missing by name and never
random. Nothing is unpickled beyond plain tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from torch import Tensor

from contralign.models.convert.checkpoint import read_tensors, read_weights
from contralign.models.convert.mini_gemini.names import PREFIXES
from contralign.models.convert.mini_gemini.towers import convnext_tower
from contralign.models.convert.original_layout import DERIVED

TEXT_FILES = ("*.json", "*.model", "*.txt")

NOT_OF_THE_TOWER = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
"""What a whole CLIP has beside its vision tower."""

PROJECTOR_MODULES = ("multi_modal_projector.", "patch_mining.", "image_newline")

ORIGINAL_PROJECTOR = {
    original.removeprefix("model."): name.removeprefix("model.")
    for original, name in PREFIXES.items()
    if "projector" in original
}
"""Name in a file of the original trainers, mm_projector.bin among them -> name in memory; what is before it goes."""


def fetch_part(name: str, weights: bool = True) -> Path:
    """Where the files of a part lie: the directory itself, or that of the hub's cache, fetched if need be.

    Safetensors are fetched where there are any, else pickled files.

    Args:
        name: directory, or name on the hub.
        weights: False fetches configuration and tokenizer alone, to see whether the part can be had.

    Raises:
        ValueError: it is no directory and cannot be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*TEXT_FILES, *["*.safetensors"] * weights]))
        if weights and not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*TEXT_FILES, "*.bin"]))
    except (OSError, HFValidationError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{name!r} is no directory and cannot be fetched: {first_line} Give a directory with the weights, or a "
            "name on the hub while it can be reached"
        ) from error
    return folder


def language_model_weights(folder: Path, rows: int, tied: bool) -> dict[str, Tensor]:
    """A causal language model's weights; the vocabulary grows to `rows`, each new row the mean of the old.

    The logits of the words that were there stay what they were, and no new one is likely by accident.

    Args:
        folder: of the weights.
        rows: of the embeddings and of the head.
        tied: the head is the embeddings.
    """
    state = {_model_name(name): tensor for name, tensor in read_weights(folder).items() if not name.endswith(DERIVED)}
    embeddings, head = "model.language_model.embed_tokens.weight", "lm_head.weight"
    if tied and embeddings in state:
        state[head] = state[embeddings]
    return {
        name: _padded_rows(tensor, rows) if name in (embeddings, head) else tensor for name, tensor in state.items()
    }


def vision_tower_weights(folder: Path) -> dict[str, Tensor]:
    """A CLIP vision tower's weights; of a whole CLIP the text half is left out."""
    return {
        f"model.vision_tower.{name.removeprefix('vision_model.')}": tensor
        for name, tensor in read_weights(folder).items()
        if not name.startswith(NOT_OF_THE_TOWER) and not name.endswith(DERIVED)
    }


def aux_tower_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of Mini-Gemini's ConvNeXt, from the file of a whole CLIP as open_clip saves it.

    Raises:
        ConversionError: there is no such file.
    """
    _, state = convnext_tower(folder)
    return {f"model.vision_tower_aux.{name}": tensor for name, tensor in state.items()}


def projector_weights(source: str | Path) -> dict[str, Tensor]:
    """The projector that a model directory or a file such as mm_projector.bin holds, mining and newline included.

    Args:
        source: a directory that `save_pretrained` wrote, one with an original mm_projector.bin, or a file.

    Raises:
        ConversionError: a file cannot be read.
        ValueError: there is no projector in it.
    """
    path = Path(source)
    if path.is_dir() and (path / "mm_projector.bin").is_file():
        path = path / "mm_projector.bin"
    held = _read_projector_of(path) if path.is_dir() else read_tensors(path) if path.is_file() else {}
    state = {f"model.{place}": tensor for name, tensor in held.items() if (place := _projector_name(name))}
    if not state:
        raise ValueError(
            f"projector={str(source)!r}: no projector in it; wanted a model directory with safetensors, or a file such "
            "as mm_projector.bin"
        )
    return state


def _model_name(name: str) -> str:
    """model.layers.0 -> model.language_model.layers.0; the head stays beside the model."""
    return name if name.startswith("lm_head.") else f"model.language_model.{name.removeprefix('model.')}"


def _padded_rows(weight: Tensor, rows: int) -> Tensor:
    new = rows - len(weight)
    return weight if new <= 0 else torch.cat([weight, weight.float().mean(0, keepdim=True).to(weight).expand(new, -1)])


def _read_projector_of(folder: Path) -> Mapping[str, Tensor]:
    """Of a model directory nothing but the projector is read."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys() if _projector_name(name)}  # noqa: SIM118
    return found


def _projector_name(name: str) -> str | None:
    """Place in the model below `model.`, from the file's name in either layout; None for what is no projector."""
    for original, place in ORIGINAL_PROJECTOR.items():
        if original in name:
            return place + name.partition(original)[2]
    for module in PROJECTOR_MODULES:
        if module in name:
            return module + name.partition(module)[2]
    return None
