"""LLaVA-1.5 and LLaVA-NeXT as their authors save them, read into Hugging Face's models.

What differs between the two (spec, sections 4.5, 5 and 10):

- Names. The language model, the projector and the tower move; Hugging Face has no `vision_model` level in the tower.
- The tower. Its architecture stands in another directory, the one `mm_vision_tower` names; its weights are in the
  checkpoint, or there. Where the checkpoint has them they are taken: a tower that was trained is found nowhere else.
- The activation. CLIP uses QuickGELU, as the tower's own config says; the projector uses the exact GELU.
- The features. Patch tokens (no class token) of layer −2, so the tower's last layer and `post_layernorm` are read but
  never used.
- The image token. The original marks a picture with the id −200 and has no row for it; see `load_original_llava`.
- LLaVA-NeXT's grids. The original reads `image_grid_pinpoints` as (width, height), Hugging Face as (height, width).

The tokenizer is not touched here: see `sentencepiece_tokenizer`.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaNextForConditionalGeneration, PreTrainedModel
from transformers.initialization import no_init_weights

from contralign.models.convert.checkpoint import ConversionError, fill_parameters, read_json, read_weights
from contralign.models.convert.clip_tower import clip_config, clip_weights, tower_digest, tower_directory
from contralign.models.convert.llava.config import LLAVA, LLAVA_NEXT, check_original, llava_config, llava_next_config
from contralign.models.convert.original_layout import PREFIXES, rename_keys, with_prefix
from contralign.models.convert.projector_file import PROJECTOR_FILE, with_projector

logger = logging.getLogger(__name__)

Llava = TypeVar("Llava", LlavaForConditionalGeneration, LlavaNextForConditionalGeneration)

NEWLINE = "model.image_newline"
NEXT_PREFIXES = {**PREFIXES, NEWLINE: NEWLINE}
"""LLaVA-NeXT has one parameter more."""

KINDS: dict[type[PreTrainedModel], tuple[Callable[..., Any], Mapping[str, tuple[Any, Any]], Mapping[str, str]]] = {
    LlavaForConditionalGeneration: (llava_config, LLAVA, PREFIXES),
    LlavaNextForConditionalGeneration: (llava_next_config, LLAVA_NEXT, NEXT_PREFIXES),
}
"""Model class -> what makes its config, the settings it can express, and how names change."""


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
      hand `inputs_embeds` to the model, or give it a row with `vocabulary.add_image_row`.
    - An id inside the vocabulary, one that no text uses, also lets the plain Hugging Face forward and `generate` take
      `input_ids` and `pixel_values`.

    Args:
        path: holds config.json and the weights, whole or in shards.
        tower_root: directory that the checkpoint's `mm_vision_tower` is relative to; None takes that name as a path, or
            as a hub name that is in the cache.
        image_token_id: 0 or more, see above.
        dtype: of all parameters; None keeps that of the language model (the released files are float16: ask for
            float32 to train).

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        ConversionError: a file is missing or broken, the checkpoint is of another family, or its tensors and the
            model's parameters do not fill each other; every name is listed.
    """
    return _load(LlavaForConditionalGeneration, Path(path), tower_root, image_token_id, dtype)


def load_original_llava_next(
    path: str | Path,
    tower_root: str | Path | None = None,
    image_token_id: int | None = None,
    dtype: torch.dtype | None = None,
) -> LlavaNextForConditionalGeneration:
    """Read an original LLaVA-NeXT (LLaVA-1.6 on Vicuna) checkpoint directory.

    As `load_original_llava`. The grids of the config are turned to Hugging Face's order, so with a processor that has
    the same turned grids (`processors.llava_next_processor`) every picture takes the tiles that the original takes.

    Raises:
        ConversionError: see `load_original_llava`; or there is no `image_newline`, as in a stage-1 file.
    """
    return _load(LlavaNextForConditionalGeneration, Path(path), tower_root, image_token_id, dtype)


def _load(
    kind: type[Llava], path: Path, tower_root: str | Path | None, image_token_id: int | None, dtype: torch.dtype | None
) -> Llava:
    make_config, supported, prefixes = KINDS[kind]
    original = read_json(path / "config.json")
    check_original(original, path, supported)
    tower = tower_directory(original, tower_root)
    config = make_config(original, clip_config(original["mm_vision_tower"], tower), image_token_id)
    with no_init_weights():
        model: Any = kind(config)
    state = with_projector(read_weights(path), path)
    if not any(name.startswith("model.vision_tower.") for name in state):
        if original.get("unfreeze_mm_vision_tower"):
            raise ConversionError(
                "config.json says that the vision tower was trained (unfreeze_mm_vision_tower), and the checkpoint "
                f"does not hold it: the untrained one at {tower} would be wrong"
            )
        state |= clip_weights(original["mm_vision_tower"], tower)
    renamed, unplaced = rename_llava_keys(state, prefixes)
    if NEWLINE in prefixes and NEWLINE not in renamed:
        raise ConversionError(
            f"{path} has no {NEWLINE}: LLaVA leaves it out of {PROJECTOR_FILE}, so a stage-1 adapter of LLaVA-NeXT is "
            "not whole even with its base; convert a checkpoint of the whole model"
        )
    if dtype is None:
        embedding = renamed.get("model.language_model.embed_tokens.weight")
        dtype = torch.float32 if embedding is None else embedding.dtype
        _warn_of_lost_precision(renamed, dtype, path)
    fill_parameters(model, renamed, unplaced, dtype)
    model.config.original_tower = tower_digest(model.model.vision_tower)
    return model.eval()


def _warn_of_lost_precision(state: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> None:
    lost = sorted(name for name, tensor in state.items() if torch.promote_types(tensor.dtype, dtype) != dtype)
    if lost:
        logger.warning(
            "%s: %d tensors come down to %s, the language model's precision (%s, ...); ask for a dtype to keep theirs",
            path,
            len(lost),
            dtype,
            lost[0],
        )


def rename_llava_keys(
    state: Mapping[str, Tensor], prefixes: Mapping[str, str] = PREFIXES
) -> tuple[dict[str, Tensor], list[str]]:
    """Original names to the names in the memory of Hugging Face's model (spec, section 4.5).

    Args:
        state: an original state dict.
        prefixes: how names change; read backwards they lead from memory to the original.

    Returns:
        The tensors under their new names, and the names that have no place. Buffers that follow from the config
        (`DERIVED`) are in neither.
    """
    return rename_keys(state, lambda name: with_prefix(name, prefixes))
