"""The config of LLaVA-1.5 and LLaVA-NeXT, from the original's layout to Hugging Face's and back.

The original's config.json is kept whole in the Hugging Face config, as `original_settings`: it says what the other has
no word for (which tower, how pictures are cut in training). The way back writes what the model is now over it.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaNextConfig

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.original_layout import TEXT_SETTINGS, check_model_type

LLAVA_TYPES = ("llava_llama", "llava")
ALL_TEXT_SETTINGS = (*TEXT_SETTINGS, "hidden_act", "rope_theta", "rope_scaling")

BOTH: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mm_projector_type": ("linear", ("mlp2x_gelu",)),
    "mm_vision_select_feature": ("patch", ("patch", "cls_patch")),
    "mm_use_im_start_end": (False, (False,)),
    "s2": (False, (False,)),
    "tie_word_embeddings": (False, (False,)),
}
LLAVA = BOTH | {"mm_patch_merge_type": ("flat", ("flat",)), "image_aspect_ratio": ("square", ("square", "pad"))}
LLAVA_NEXT = BOTH | {
    "mm_patch_merge_type": ("flat", ("spatial_unpad",)),
    "image_aspect_ratio": ("square", ("anyres",)),
    "mm_vision_select_feature": ("patch", ("patch",)),
}
"""Setting -> what the original code takes where it is absent, and the values that mean this family."""

DEFAULTS = {
    "model_type": "llava_llama",
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "pretraining_tp": 1,
    "tokenizer_padding_side": "right",
    "tune_mm_mlp_adapter": False,
    "use_cache": True,
    "use_mm_proj": True,
}
"""What the original writes and a Hugging Face config cannot say, for models that never were in the original layout."""


def is_llava_next(original: Mapping[str, Any]) -> bool:
    """Whether an original LLaVA config asks for tiles (anyres)."""
    merge = str(original.get("mm_patch_merge_type", "flat"))
    return merge.startswith("spatial") or "anyres" in str(original.get("image_aspect_ratio"))


def check_original(original: Mapping[str, Any], path: Path, supported: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse a config that does not mean this family.

    Raises:
        ConversionError: the first setting that stands in the way.
    """
    check_model_type(original, path, LLAVA_TYPES, "llava_llama or llava, as LLaVA writes it")
    for name, (absent, allowed) in supported.items():
        value = original.get(name, absent)
        if value not in allowed:
            raise ConversionError(
                f"{path} has {name}={value!r}: {'LLaVA-NeXT' if is_llava_next(original) else 'LLaVA-1.5'} has "
                f"{' or '.join(map(repr, allowed))}, and the Hugging Face model of it cannot express another"
            )


def llava_config(
    original: Mapping[str, Any], vision_config: CLIPVisionConfig, image_token_id: int | None = None
) -> LlavaConfig:
    """The Hugging Face config of an original LLaVA-1.5.

    Args:
        original: the checkpoint's config.json.
        vision_config: of its tower.
        image_token_id: see `load_original_llava`.

    Raises:
        ConversionError: the image token id is not an integer, 0 or more.
    """
    return LlavaConfig(**_settings(original, vision_config, image_token_id))


def llava_next_config(
    original: Mapping[str, Any], vision_config: CLIPVisionConfig, image_token_id: int | None = None
) -> LlavaNextConfig:
    """The Hugging Face config of an original LLaVA-NeXT; its grids turned from (width, height) to (height, width).

    Raises:
        ConversionError: the image token id is not an integer, 0 or more, or the grids cannot be read.
    """
    settings = _settings(original, vision_config, image_token_id)
    return LlavaNextConfig(**settings, image_grid_pinpoints=swapped(grid_pinpoints(original)))


def grid_pinpoints(original: Mapping[str, Any]) -> list[list[int]]:
    """`image_grid_pinpoints` of an original config, (width, height) each; older files hold them as one string.

    Raises:
        ConversionError: they are absent or no pairs of whole numbers.
    """
    value = original.get("image_grid_pinpoints")
    try:
        pairs = [list(pair) for pair in (ast.literal_eval(value) if isinstance(value, str) else value or ())]
    except (ValueError, SyntaxError, TypeError):
        pairs = []
    whole = [pair for pair in pairs if len(pair) == 2 and all(isinstance(side, int) and side > 0 for side in pair)]
    if not pairs or whole != pairs:
        raise ConversionError(f"image_grid_pinpoints={value!r}: wanted pairs of (width, height) in pixels")
    return pairs


def swapped(pairs: list[list[int]]) -> list[list[int]]:
    """Every pair the other way round: LLaVA writes (width, height), Hugging Face (height, width)."""
    return [[second, first] for first, second in pairs]


def _settings(
    original: Mapping[str, Any], vision_config: CLIPVisionConfig, image_token_id: int | None
) -> dict[str, Any]:
    settings = {name: original[name] for name in ALL_TEXT_SETTINGS if original.get(name) is not None}
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
    return {
        "vision_config": vision_config,
        "text_config": text_config,
        "image_token_index": image_token_id,
        "image_seq_length": num_patches if patches_only else num_patches + 1,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default" if patches_only else "full",
        "vision_feature_layer": original.get("mm_vision_select_layer", -2),
        "original_settings": dict(original),
    }


def _num_patches(vision_config: CLIPVisionConfig) -> int:
    image_size, patch_size = vision_config.image_size, vision_config.patch_size
    if not (isinstance(image_size, int) and isinstance(patch_size, int)):
        raise ConversionError(
            f"the tower has image_size={image_size}, patch_size={patch_size}: wanted one side of each"
        )
    return (image_size // patch_size) ** 2


def original_config(config: LlavaConfig | LlavaNextConfig, vocab_size: int, tower: str, dtype: str) -> dict[str, Any]:
    """config.json as the original writes it, of a Hugging Face config.

    Args:
        config: of the model.
        vocab_size: rows that the original vocabulary has.
        tower: `mm_vision_tower`.
        dtype: of the weights, such as "float16".

    Raises:
        ConversionError: the original code has no word for what the model is.
    """
    text, vision = _checked_parts(config)
    anyres = isinstance(config, LlavaNextConfig)
    before: dict[str, Any] = getattr(config, "original_settings", None) or {}
    aspect = "anyres" if anyres else before.get("image_aspect_ratio", "pad")
    now = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": tower,
        "mm_hidden_size": vision.hidden_size,
        "mm_vision_select_layer": config.vision_feature_layer,
        "mm_vision_select_feature": "patch" if config.vision_feature_select_strategy == "default" else "cls_patch",
        "mm_patch_merge_type": "spatial_unpad" if anyres else "flat",
        "image_aspect_ratio": aspect,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        **_text_settings(text, vocab_size),
    }
    if anyres:
        now["image_grid_pinpoints"] = swapped([list(pair) for pair in config.image_grid_pinpoints or ()])
    lengths = {"tokenizer_model_max_length": 4096 if anyres else 2048}
    return dict(sorted((DEFAULTS | lengths | before | now).items()))


def _text_settings(text: LlamaConfig, vocab_size: int) -> dict[str, Any]:
    rope = dict(text.rope_parameters or {})
    theta = rope.pop("rope_theta", 10000.0)
    scaling = None if rope.get("rope_type", "default") == "default" else {**rope, "type": rope["rope_type"]}
    now = {name: getattr(text, name) for name in (*TEXT_SETTINGS, "hidden_act")}
    return now | {"vocab_size": vocab_size, "rope_theta": theta, "rope_scaling": scaling}


def _checked_parts(config: LlavaConfig | LlavaNextConfig) -> tuple[LlamaConfig, CLIPVisionConfig]:
    text, vision = config.text_config, config.vision_config
    if not isinstance(text, LlamaConfig) or not isinstance(vision, CLIPVisionConfig):
        kinds = ", ".join(getattr(part, "model_type", "none") for part in (text, vision))
        raise ConversionError(f"this model is made of {kinds}: the original LLaVA has a llama and a clip_vision_model")
    wanted = {"projector_hidden_act": ("gelu",), "multimodal_projector_bias": (True,), "tie_word_embeddings": (False,)}
    for name, allowed in wanted.items():
        if getattr(config, name) not in allowed:
            raise ConversionError(f"this model has {name}={getattr(config, name)!r}: the original has {allowed[0]!r}")
    if not isinstance(config.vision_feature_layer, int):
        raise ConversionError(
            f"this model reads layers {config.vision_feature_layer} of the tower: the original reads one"
        )
    return text, vision
