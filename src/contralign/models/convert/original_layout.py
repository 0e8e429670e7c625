"""What the original layouts of LLaVA and Mini-Gemini have in common: names of tensors and of settings (spec, 4.5)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from contralign.models.convert.checkpoint import ConversionError

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
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_bias",
    "attention_dropout",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
"""Settings of the language model that have one name in both layouts."""


def check_model_type(original: Mapping[str, Any], path: Any, model_types: Sequence[str], wanted: str) -> None:
    """Refuse a config.json of another layout or family.

    Raises:
        ConversionError: with what came and `wanted`.
    """
    if "text_config" in original:
        raise ConversionError(f"{path} is in the Hugging Face layout already: load it with from_pretrained")
    if original.get("model_type") not in model_types:
        raise ConversionError(f"{path} has model_type={original.get('model_type')!r}: wanted {wanted}")


def rename_keys(
    state: Mapping[str, Tensor], rename: Callable[[str], str | None]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under their new names, and the names that have none; buffers that are `DERIVED` are in neither."""
    placed = {name: rename(name) for name in state if not name.endswith(DERIVED)}
    renamed = {new: state[name] for name, new in placed.items() if new is not None}
    return renamed, [name for name, new in placed.items() if new is None]


def with_prefix(name: str, prefixes: Mapping[str, str]) -> str | None:
    """The name with the beginning that `prefixes` gives it; None where no prefix fits."""
    prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
    return None if prefix is None else prefixes[prefix] + name.removeprefix(prefix)
