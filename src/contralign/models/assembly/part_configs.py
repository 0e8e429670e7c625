"""Configurations of the parts of a vision-language model, in their published or a small size."""

import copy
from dataclasses import dataclass
from typing import Any

from transformers import CLIPVisionConfig, ConvNextConfig, PreTrainedConfig

from contralign.models.assembly.published_parts import part_config

SMALL_DECODER: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "initializer_range": 1 / 8,  # 1 / √hidden_size: 0.02 would let hardly anything through
}
SMALL_CLIP: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
SMALL_CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


@dataclass(frozen=True, kw_only=True)
class PartConfigs:
    """Configurations of the parts.

    Attributes:
        language_model: LLaMA or Gemma.
        vision_tower: CLIP.
        aux_tower: the high-resolution ConvNeXt of Mini-Gemini; None in the other families.
    """

    language_model: PreTrainedConfig
    vision_tower: CLIPVisionConfig
    aux_tower: ConvNextConfig | None = None


def part_configs(language_model: str, vision_tower: str, aux_tower: str | None = None) -> PartConfigs:
    """Configurations of parts that are named by directory or hub name.

    Raises:
        ValueError: a name that cannot be found, or a part of another kind than its place wants.
    """
    decoder, clip = part_config(language_model), part_config(vision_tower)
    convnext = None if aux_tower is None else part_config(aux_tower)
    if decoder.model_type not in ("llama", "gemma"):
        raise ValueError(f"language_model={language_model!r} is of type {decoder.model_type!r}: wanted llama or gemma")
    if not isinstance(clip, CLIPVisionConfig):
        raise ValueError(f"vision_tower={vision_tower!r} is of type {clip.model_type!r}: wanted a CLIP vision tower")
    if convnext is not None and not isinstance(convnext, ConvNextConfig):
        raise ValueError(f"aux_tower={aux_tower!r} is of type {convnext.model_type!r}: wanted a ConvNeXt")
    return PartConfigs(language_model=decoder, vision_tower=clip, aux_tower=convnext)


def scaled_down(parts: PartConfigs) -> PartConfigs:
    """The same architectures, small enough for a CPU: every switch stays, widths and depths shrink.

    Key-value heads are shared as before, activations, normalisation, tying and longest length are those of the true
    part. A picture of 56 pixels has 4 × 4 patches of 14.
    """
    decoder: Any = parts.language_model
    shared = decoder.num_attention_heads // decoder.num_key_value_heads
    heads = SMALL_DECODER["num_attention_heads"]
    return PartConfigs(
        language_model=_changed(decoder, {**SMALL_DECODER, "num_key_value_heads": max(1, heads // shared)}),
        vision_tower=_changed(parts.vision_tower, SMALL_CLIP),
        aux_tower=None if parts.aux_tower is None else _changed(parts.aux_tower, SMALL_CONVNEXT),
    )


def _changed(config: Any, sizes: dict[str, Any]) -> Any:
    return type(config)(**{**copy.deepcopy(config.to_diff_dict()), **sizes})
