"""LLaVA-1.5 as its authors save it, read into Hugging Face's `LlavaForConditionalGeneration`.

What differs between the two (spec, sections 4.5, 5 and 10):

- Names. The language model, the projector and the tower move; Hugging Face has no `vision_model` level in the tower.
- The tower. Its architecture stands in another directory, the one `mm_vision_tower` names; its weights are in the
  checkpoint, or there. Where the checkpoint has them they are taken: a tower that was trained is found nowhere else.
- The activation. CLIP uses QuickGELU, as the tower's own config says; the projector uses the exact GELU.
- The features. Patch tokens (no class token) of layer −2, so the tower's last layer and `post_layernorm` are read but
  never used.
- The image token. The original marks a picture with the id −200 and has no row for it; see `load_original_llava`.

The tokenizer is not touched: `AutoTokenizer` can change the original's tokens (spec, section 10.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.initialization import no_init_weights

from contralign.models.convert.checkpoint import ConversionError, fill_parameters, read_json, read_tensors, read_weights

logger = logging.getLogger(__name__)

PREFIXES = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "model.embed_tokens.": "model.language_model.embed_tokens.",
    "model.layers.": "model.language_model.layers.",
    "model.norm.": "model.language_model.norm.",
    "lm_head.": "lm_head.",
}
"""Original name -> name in memory, by how it begins. One to one, so it can be read backwards."""

DERIVED = ("rotary_emb.inv_freq", "embeddings.position_ids")
"""Endings of buffers that older versions saved and that follow from the config."""

TEXT_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "attention_bias",
    "attention_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)

SUPPORTED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mm_projector_type": ("linear", ("mlp2x_gelu",)),
    "mm_patch_merge_type": ("flat", ("flat",)),
    "image_aspect_ratio": ("square", ("square", "pad")),
    "mm_vision_select_feature": ("patch", ("patch", "cls_patch")),
    "mm_use_im_start_end": (False, (False,)),
    "s2": (False, (False,)),
    "tie_word_embeddings": (False, (False,)),
}
"""Setting -> what the original code takes where it is absent, and the values that mean LLaVA-1.5."""

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


def load_original_llava(
    path: str | Path,
    tower_root: str | Path | None = None,
    image_token_id: int | None = None,
    dtype: torch.dtype | None = None,
) -> LlavaForConditionalGeneration:
    """Read an original LLaVA-1.5 checkpoint directory.

    Weights come from the shards; `mm_projector.bin` fills in where the shards have no projector. Every tensor of the
    checkpoint finds its place and every parameter its value, or the checkpoint is refused: nothing stays random.

    The vocabulary keeps its original rows. An extra row for an image token would join the softmax and move every loss
    a little away from the original's, so the image token takes no row of its own:

    - None gives it the first id behind the vocabulary (32000 for Vicuna). No text can hold it, and no embedding can be
      looked up for it: look up another id at image positions before the features are put there, as the adapter does,
      or hand `inputs_embeds` to the model.
    - An id inside the vocabulary, one that no text uses, also lets the plain Hugging Face forward and `generate` take
      `input_ids` and `pixel_values`.

    Args:
        path: holds config.json and the weights, whole or in shards.
        tower_root: directory that the checkpoint's `mm_vision_tower` is relative to; None takes that name as a path.
        image_token_id: 0 or more, see above.
        dtype: of all parameters; None keeps that of the language model (the released files are float16: ask for
            float32 to train).

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        ConversionError: a file is missing or broken, the checkpoint is of another family, or its tensors and the
            model's parameters do not fill each other; every name is listed.
    """
    path = Path(path)
    original = read_json(path / "config.json")
    _check_family(original, path)
    tower = _tower_directory(original, tower_root)
    config = llava_config(original, _tower_config(original, tower), image_token_id)
    state = _with_projector(read_weights(path), path)
    if not any(name.startswith("model.vision_tower.") for name in state):
        state |= _tower_weights(original, tower)
    renamed, unplaced = rename_llava_keys(state)
    with no_init_weights():
        model = LlavaForConditionalGeneration(config)
    embedding = renamed.get("model.language_model.embed_tokens.weight")
    fill_parameters(model, renamed, unplaced, dtype or (torch.float32 if embedding is None else embedding.dtype))
    return model.eval()


def rename_llava_keys(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Original names to the names in the memory of Hugging Face's model (spec, section 4.5).

    Args:
        state: an original state dict.

    Returns:
        The tensors under their new names, and the names that have no place. Buffers that follow from the config
        (`DERIVED`) are in neither.
    """
    renamed, unplaced = {}, []
    for name, tensor in state.items():
        if name.endswith(DERIVED):
            continue
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            unplaced.append(name)
        else:
            renamed[PREFIXES[prefix] + name.removeprefix(prefix)] = tensor
    return renamed, unplaced


def llava_config(
    original: Mapping[str, Any], vision_config: CLIPVisionConfig, image_token_id: int | None = None
) -> LlavaConfig:
    """The Hugging Face config of an original one.

    Args:
        original: the checkpoint's config.json.
        vision_config: of its tower.
        image_token_id: see `load_original_llava`.

    Raises:
        ConversionError: the image token id is not an integer, 0 or more.
    """
    settings = {name: original[name] for name in TEXT_SETTINGS if original.get(name) is not None}
    text_config = LlamaConfig(**settings)
    if image_token_id is None:
        image_token_id = text_config.vocab_size
    if isinstance(image_token_id, bool) or not isinstance(image_token_id, int) or image_token_id < 0:
        raise ConversionError(
            f"image_token_id={image_token_id!r}: wanted an integer, 0 or more, that no text uses "
            "(the original's −200 cannot be looked up); None takes the first id behind the vocabulary"
        )
    patches_only = original.get("mm_vision_select_feature", "patch") == "patch"
    num_patches = _num_patches(vision_config)
    return LlavaConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=num_patches if patches_only else num_patches + 1,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default" if patches_only else "full",
        vision_feature_layer=original.get("mm_vision_select_layer", -2),
    )


def _num_patches(vision_config: CLIPVisionConfig) -> int:
    image_size, patch_size = vision_config.image_size, vision_config.patch_size
    if not (isinstance(image_size, int) and isinstance(patch_size, int)):
        raise ConversionError(
            f"the tower has image_size={image_size}, patch_size={patch_size}: wanted one side of each"
        )
    return (image_size // patch_size) ** 2


def _check_family(original: Mapping[str, Any], path: Path) -> None:
    if "text_config" in original:
        raise ConversionError(f"{path} is in the Hugging Face layout already: load it with from_pretrained")
    if original.get("model_type") not in ("llava_llama", "llava"):
        raise ConversionError(
            f"{path} has model_type={original.get('model_type')!r}: wanted llava_llama or llava, as LLaVA-1.5 writes it"
        )
    for name, (absent, allowed) in SUPPORTED.items():
        value = original.get(name, absent)
        if value not in allowed:
            raise ConversionError(
                f"{path} has {name}={value!r}: LLaVA-1.5 has {' or '.join(map(repr, allowed))}, "
                "and the Hugging Face model of it cannot express another"
            )


def _tower_directory(original: Mapping[str, Any], tower_root: str | Path | None) -> Path:
    name = original.get("mm_vision_tower")
    if not isinstance(name, str) or not name:
        raise ConversionError("config.json has no mm_vision_tower: the tower's architecture is not known without it")
    return Path(name) if tower_root is None else Path(tower_root) / name


def _tower_config(original: Mapping[str, Any], tower: Path) -> CLIPVisionConfig:
    """The tower's architecture: from its directory, or known by its hub name."""
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


def _tower_weights(original: Mapping[str, Any], tower: Path) -> dict[str, Tensor]:
    """The tower's weights from its own directory, under the names they have inside a checkpoint.

    Of a whole CLIP the text half is left out. Newer versions of transformers save a tower without `vision_model.`.
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


def _with_projector(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Adds what mm_projector.bin holds and the shards do not; the shards, trained last, win."""
    if not (path / "mm_projector.bin").is_file():
        return state
    projector = read_tensors(path / "mm_projector.bin")
    differing = [
        name for name in projector if name in state and not torch.equal(projector[name].float(), state[name].float())
    ]
    if differing:
        logger.warning("%s: mm_projector.bin is not used, the shards differ from it: %s", path, ", ".join(differing))
    return projector | state
