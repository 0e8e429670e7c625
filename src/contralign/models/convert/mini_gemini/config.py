"""A Mini-Gemini's config.json, from the original's and back."""

from collections.abc import Mapping
from typing import Any, Literal

from transformers import CLIPVisionConfig, ConvNextConfig, GemmaConfig, LlamaConfig

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.mini_gemini.towers import CLIP_NAME, CONVNEXT_NAME
from contralign.models.convert.original_layout import TEXT_SETTINGS, check_model_type
from contralign.models.mini_gemini.configuration import GELUS, MiniGeminiConfig
from contralign.models.published_towers import CLIP_LARGE, CONVNEXT_LARGE, is_built_as

LLAMA_TYPES = ("mgm", "mini_gemini")
GEMMA_TYPES = ("mgm_gemma", "mini_gemini_gemma")
"""`model_type` of original checkpoints, before and after the project was renamed."""

ALL_TEXT_SETTINGS = (*TEXT_SETTINGS, "tie_word_embeddings")

SUPPORTED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mm_projector_type": ("linear", ("mlp2x_gelu",)),
    "mm_vision_select_feature": ("patch", ("patch",)),
    "mm_use_im_start_end": (False, (False,)),
    "image_grid": (1, (1, 2)),
    "rope_scaling": (None, (None,)),
}
"""Setting -> what the original code takes where it is absent, and the values that this model can express."""


def check_original(original: Mapping[str, Any], path: Any) -> None:
    """Refuse a config that is not an original Mini-Gemini's, or asks for what our model cannot express.

    Raises:
        ConversionError: it says which setting stands in the way.
    """
    wanted = f"{', '.join(LLAMA_TYPES + GEMMA_TYPES)}, as Mini-Gemini (MGM) on Llama and on Gemma writes it"
    check_model_type(original, path, LLAMA_TYPES + GEMMA_TYPES, wanted)
    for name, (absent, allowed) in SUPPORTED.items():
        value = original.get(name, absent)
        if value not in allowed:
            raise ConversionError(
                f"{path} has {name}={value!r}: wanted {' or '.join(map(repr, allowed))}; our Mini-Gemini cannot "
                "express another"
            )
    grid, whole = original.get("image_grid", 1), bool(original.get("image_global", False))
    if whole != (grid == 2):
        raise ConversionError(
            f"{path} has image_grid={grid} and image_global={whole}: wanted 1 and false, or 2 and true (HD)"
        )
    for name in ("mm_vision_tower", "mm_vision_tower_aux", "image_size_aux"):
        if not original.get(name):
            raise ConversionError(f"{path} has no {name}: wanted the config.json of a Mini-Gemini")


def mini_gemini_config(
    original: Mapping[str, Any],
    vision_config: CLIPVisionConfig,
    convnext: Mapping[str, Any],
    text_gelu: Literal["tanh", "exact"] | None = None,
) -> MiniGeminiConfig:
    """Our config of an original one, which it keeps as `original_settings` for the way back.

    Args:
        original: the checkpoint's config.json.
        vision_config: of its CLIP tower.
        convnext: settings of its ConvNeXt tower.
        text_gelu: see `MiniGeminiConfig`; None takes `hidden_activation` where the checkpoint has one, and tanh else.
    """
    gemma = original["model_type"] in GEMMA_TYPES
    settings = {name: original[name] for name in ALL_TEXT_SETTINGS if original.get(name) is not None}
    settings["rope_theta"] = original.get("rope_theta", 10000.0)
    if gemma:
        named = original.get("hidden_activation")
        text_gelu = text_gelu or ("exact" if named in ("gelu", GELUS["exact"]) else "tanh")
        settings["head_dim"] = original.get("head_dim", 256)
    text_config = GemmaConfig(**settings) if gemma else LlamaConfig(hidden_act=original["hidden_act"], **settings)
    return MiniGeminiConfig(
        text_config=text_config,
        vision_config=vision_config,
        aux_config=ConvNextConfig(**convnext, image_size=original["image_size_aux"]),
        image_grid=original.get("image_grid", 1),
        vision_feature_layer=original.get("mm_vision_select_layer", -2),
        text_gelu=text_gelu,
        aux_drop_path=0.1 if original.get("drop_path", True) else 0.0,
        original_settings=dict(original),
    )


def original_config(config: MiniGeminiConfig, dtype: str, aux_tower_changed: bool) -> dict[str, Any]:
    """The original's config.json: what our config says, over what the checkpoint said that it came from.

    Args:
        config: of the model.
        dtype: of its parameters, as "float16".
        aux_tower_changed: the original reads the ConvNeXt from the checkpoint only if the config says it was trained.

    Raises:
        ConversionError: the original cannot express the config, or the towers' names are not known.
    """
    text: Any = config.text_config
    vision: Any = config.vision_config
    aux: Any = config.aux_config
    if text.model_type not in ("llama", "gemma") or text.rope_parameters.get("rope_type", "default") != "default":
        raise ConversionError(f"a {text.model_type} with {text.rope_parameters}: wanted a Llama or Gemma, plain RoPE")
    if config.scale_image_features != (text.model_type == "gemma") or config.projector_hidden_act != "gelu":
        raise ConversionError(
            f"scale_image_features={config.scale_image_features}, projector_hidden_act={config.projector_hidden_act!r} "
            f"with a {text.model_type}: the original's scale is on for Gemma alone, and its activation is gelu"
        )
    stored = config.original_settings or {}
    kept = stored if "model_type" in stored else _fresh_settings(config, stored)
    changed = {"optimize_vision_tower_aux": True} if aux_tower_changed else {}
    drops = config.aux_drop_path > 0
    drop_path = {} if drops == kept.get("drop_path", True) else {"drop_path": drops}
    return {
        **kept,
        **{name: getattr(text, name) for name in ALL_TEXT_SETTINGS},
        **_text_settings(text, kept),
        "rope_theta": text.rope_parameters["rope_theta"],
        "mm_hidden_size": vision.hidden_size,
        "mm_hidden_size_aux": sum(aux.hidden_sizes),
        "mm_vision_select_layer": config.vision_feature_layer,
        "image_size_aux": aux.image_size,
        "image_grid": config.image_grid,
        "image_global": config.image_grid > 1,
        "torch_dtype": dtype,
        **changed,
        **drop_path,
    }


def _text_settings(text: Any, kept: Mapping[str, Any]) -> dict[str, Any]:
    if text.model_type == "llama":
        return {"hidden_act": text.hidden_act}
    exact = text.hidden_act == GELUS["exact"]
    tanh = kept["hidden_activation"] if kept.get("hidden_activation") in (None, GELUS["tanh"]) else GELUS["tanh"]
    return {"hidden_act": "gelu", "head_dim": text.head_dim, "hidden_activation": "gelu" if exact else tanh}


def _fresh_settings(config: MiniGeminiConfig, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What the original needs beside the architecture, for a model that was not converted from one."""
    text: Any = config.text_config
    vision: Any = config.vision_config
    aux: Any = config.aux_config
    published = is_built_as(vision, CLIP_LARGE) and is_built_as(aux, CONVNEXT_LARGE)
    if not published and not {"mm_vision_tower", "mm_vision_tower_aux"} <= set(stored):
        raise ConversionError(
            "the original layout names its towers, and these are not the published ones: set config.original_settings "
            '= {"mm_vision_tower": ..., "mm_vision_tower_aux": ...}, directories the original code finds'
        )
    gemma = text.model_type == "gemma"
    return {
        "architectures": ["MGMGemmaForCausalLM" if gemma else "MGMLlamaForCausalLM"],
        "model_type": "mgm_gemma" if gemma else "mgm",
        "hidden_activation": None,
        "image_aspect_ratio": "pad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_tower": CLIP_NAME,
        "mm_vision_tower_aux": CONVNEXT_NAME,
        "use_mm_proj": True,
        **stored,
    }
