"""Mini-Gemini (MGM) as its authors save it, read into `MiniGeminiForConditionalGeneration`.

What differs between the two (spec, sections 4.5, 4.6 and 10):

- Names; the ConvNeXt keeps open_clip's, `.gamma` for its layer scale among them.
- The towers. A full save carries both, and what it carries is taken: a tower that was trained is found nowhere else.
  The original does so with the CLIP tower; the ConvNeXt it reads from its own directory unless the config says that it
  was trained, and so long as it was not the two are equal. What a checkpoint lacks is read from the towers' own.
- The ConvNeXt's architecture. The original knows it by its directory's name; here it is read off the weights.
- The image token. The original marks a picture with the id −200; ours has the first id behind the vocabulary, and needs
  no row for it either.
- Gemma: the scale of image features and the activation; see `MiniGeminiConfig`.

The tokenizer is not touched.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.initialization import no_init_weights

from contralign.models.convert.checkpoint import ConversionError, fill_parameters, read_json, read_weights
from contralign.models.convert.clip_tower import CLIP_TOWER, clip_config, clip_weights, tower_digest
from contralign.models.convert.mini_gemini.config import check_original, mini_gemini_config
from contralign.models.convert.mini_gemini.names import AUX_TOWER, rename_mini_gemini_keys
from contralign.models.convert.mini_gemini.towers import convnext_settings, convnext_weights
from contralign.models.convert.projector_file import with_projector
from contralign.models.mini_gemini import MiniGeminiForConditionalGeneration

EMBEDDING = "model.language_model.embed_tokens.weight"
HEAD = "lm_head.weight"


def load_original_mini_gemini(
    path: str | Path,
    tower_root: str | Path | None = None,
    dtype: torch.dtype | None = None,
    text_gelu: Literal["tanh", "exact"] | None = None,
) -> MiniGeminiForConditionalGeneration:
    """Read an original Mini-Gemini checkpoint directory, of Llama or Gemma, plain or HD.

    Weights come from the shards; `mm_projector.bin` fills in what they lack, and the towers' directories what both
    lack. Every tensor of the checkpoint finds its place and every parameter its value, or the checkpoint is refused.

    Args:
        path: holds config.json and the weights, whole or in shards.
        tower_root: directory that `mm_vision_tower` and `mm_vision_tower_aux` are relative to; None takes these names
            as paths.
        dtype: of all parameters; None keeps that of the language model, which is a half-sized one in released files:
            ask for float32 to train.
        text_gelu: activation of a Gemma, see `MiniGeminiConfig`; None takes what the checkpoint says, and tanh where it
            says no more than "gelu".

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        ConversionError: a file is missing or broken, the checkpoint is of another family, or its tensors and the
            model's parameters do not fill each other; every name is listed.
    """
    path = Path(path)
    original = read_json(path / "config.json")
    check_original(original, path)
    renamed, unplaced = rename_mini_gemini_keys(
        _with_towers(with_projector(read_weights(path), path), original, tower_root)
    )
    aux = {name.removeprefix(AUX_TOWER): tensor for name, tensor in renamed.items() if name.startswith(AUX_TOWER)}
    clip = clip_config(original["mm_vision_tower"], _directory(original["mm_vision_tower"], tower_root))
    config = mini_gemini_config(original, clip, convnext_settings(aux), text_gelu)
    with no_init_weights():
        model = MiniGeminiForConditionalGeneration(config)
    if config.tie_word_embeddings:
        _tie(renamed, unplaced)
    embedding = renamed.get(EMBEDDING)
    fill_parameters(model, renamed, unplaced, dtype or (torch.float32 if embedding is None else embedding.dtype))
    model.tie_weights()
    model.config.original_aux_tower = tower_digest(model.model.vision_tower_aux)
    return model.eval()


def _directory(name: str, tower_root: str | Path | None) -> Path:
    return Path(name) if tower_root is None else Path(tower_root) / name


def _with_towers(
    state: dict[str, Tensor], original: Mapping[str, Any], tower_root: str | Path | None
) -> dict[str, Tensor]:
    """Adds a tower that the checkpoint does not hold, from its own directory."""
    for setting, prefix, read in (
        ("mm_vision_tower", CLIP_TOWER, clip_weights),
        ("mm_vision_tower_aux", AUX_TOWER, convnext_weights),
    ):
        if any(name.startswith(prefix) for name in state):
            continue
        trained = "optimize_vision_tower" + setting.removeprefix("mm_vision_tower")
        if original.get(trained):
            raise ConversionError(
                f"config.json says that this tower was trained ({trained}), and the checkpoint does not hold it: the "
                f"untrained one, {original[setting]}, would be wrong"
            )
        state = state | read(original[setting], _directory(original[setting], tower_root))
    return state


def _tie(renamed: dict[str, Tensor], unplaced: list[str]) -> None:
    """The head is the embedding; one that is saved beside it has to say the same."""
    embedding = renamed.get(EMBEDDING)
    if embedding is None:
        return
    if HEAD in renamed and not torch.equal(renamed[HEAD], embedding):
        unplaced.append(f"{HEAD} (tied to the embedding by the config, and not equal to it)")
    renamed[HEAD] = embedding
