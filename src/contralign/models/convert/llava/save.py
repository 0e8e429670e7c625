"""The way back: a Hugging Face LLaVA-1.5 or LLaVA-NeXT written as its authors' code reads it.

Rows that were added to the vocabulary are taken off. The tower goes into the shards, as it does when the original saves
a whole model; whether their loader reads it from there depends on `unfreeze_mm_vision_tower`, which is therefore set
wherever the tower is not known to be the one that `mm_vision_tower` names.

`mm_projector.bin`, the original's file of stage 1, is written beside the shards. LLaVA leaves `image_newline` out of it
(spec, section 10.7), and so does this: the shards hold it.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPVisionModel, LlavaForConditionalGeneration, LlavaNextForConditionalGeneration

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.clip_tower import clip_settings, tower_digest
from contralign.models.convert.llava.config import original_config
from contralign.models.convert.llava.load import NEXT_PREFIXES
from contralign.models.convert.original_layout import PREFIXES, rename_keys, with_prefix
from contralign.models.convert.projector_file import PROJECTOR_FILE
from contralign.models.convert.tokenizers.vocabulary import original_vocab_size
from contralign.models.convert.weight_files import SHARD_BYTES, WeightFormat, write_tensors, write_weights
from contralign.models.published_towers import CLIP_L_336, CLIP_LARGE, is_built_as

ROWS_OF_THE_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
TOWER_FOLDER = "vision_tower"

Llava = LlavaForConditionalGeneration | LlavaNextForConditionalGeneration


def save_original_llava(
    model: Llava,
    folder: str | Path,
    weight_format: WeightFormat = "safetensors",
    shard_bytes: int = SHARD_BYTES,
    with_tower: bool = True,
) -> None:
    """Write config.json, the weights in shards with their index, generation_config.json and mm_projector.bin.

    Args:
        model: LLaVA-1.5 or LLaVA-NeXT on a Llama and a CLIP tower.
        folder: made if it is not there; `mm_vision_tower` keeps its name. A tower without a name is also written to
            `folder`/vision_tower, and `mm_vision_tower` is "vision_tower".
        weight_format: safetensors or bin.
        shard_bytes: size of a shard.
        with_tower: False leaves the tower out, to be read from where `mm_vision_tower` says.

    Raises:
        ConversionError: the original code has no word for what the model is, or the tower is to be left out though it
            was trained, or is known nowhere else.
    """
    folder = Path(folder)
    rows = original_vocab_size(model)
    state = original_state(model, rows)
    settings = _config(model, rows, with_tower)
    if not with_tower:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("model.vision_tower.")}
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(state, folder, weight_format, shard_bytes)
    projector = {name: tensor for name, tensor in state.items() if name.startswith("model.mm_projector.")}
    write_tensors(projector, folder / PROJECTOR_FILE)
    if settings["mm_vision_tower"] == TOWER_FOLDER:
        _write_tower(model, folder / TOWER_FOLDER)
    _write_json(settings, folder / "config.json")
    ends = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(ends, folder / "generation_config.json")


def original_state(model: Llava, rows: int) -> dict[str, Tensor]:
    """All weights under the original's names, the vocabulary with its first `rows` rows. Nothing is copied.

    Raises:
        ConversionError: the model has weights that the original has no name for.
    """
    prefixes = NEXT_PREFIXES if isinstance(model, LlavaNextForConditionalGeneration) else PREFIXES
    back = {here: there for there, here in prefixes.items()}
    state, unplaced = rename_keys(model.state_dict(), lambda name: with_prefix(name, back))
    if unplaced:
        raise ConversionError(f"the original LLaVA has no name for {', '.join(sorted(unplaced))}")
    return {name: tensor[:rows] if name in ROWS_OF_THE_VOCABULARY else tensor for name, tensor in state.items()}


def _config(model: Llava, rows: int, with_tower: bool) -> dict[str, Any]:
    before = getattr(model.config, "original_settings", None) or {}
    name = before.get("mm_vision_tower") or _published_name(model.config.vision_config) or TOWER_FOLDER
    untouched = tower_digest(model.model.vision_tower) == getattr(model.config, "original_tower", None)
    if not with_tower and not (untouched and name != TOWER_FOLDER):
        raise ConversionError(
            f"the tower cannot be left out: it is not known to be the one that mm_vision_tower={name!r} names"
        )
    settings = original_config(model.config, rows, name, str(model.dtype).removeprefix("torch."))
    return settings if untouched else settings | {"unfreeze_mm_vision_tower": True}


def _published_name(vision: Any) -> str | None:
    """Hub name of a tower of this architecture."""
    return CLIP_L_336 if is_built_as(vision, CLIP_LARGE) else None


def _write_tower(model: Llava, folder: Path) -> None:
    """The tower as a model of its own, for an original loader that asks for its config and its picture settings."""
    vision: Any = model.config.vision_config
    tower = CLIPVisionModel(vision)
    tower.load_state_dict(model.model.vision_tower.state_dict())
    tower.to(model.dtype).save_pretrained(folder)  # pyright: ignore[reportArgumentType]
    pictures = {"image_processor_type": "CLIPImageProcessor", **clip_settings(vision.image_size)}
    _write_json(pictures, folder / "preprocessor_config.json")


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
