"""A Mini-Gemini written as its authors' code reads it."""

import json
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards

from contralign.models.convert.checkpoint import ConversionError
from contralign.models.convert.clip_tower import tower_digest
from contralign.models.convert.mini_gemini.config import original_config
from contralign.models.convert.mini_gemini.load import HEAD
from contralign.models.convert.mini_gemini.names import original_names
from contralign.models.convert.weight_files import write_shards
from contralign.models.mini_gemini import MiniGeminiForConditionalGeneration

OF_THE_LANGUAGE_MODEL = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")


def save_original_mini_gemini(
    model: MiniGeminiForConditionalGeneration, folder: str | Path, max_shard_size: str = "5GB"
) -> None:
    """Write a checkpoint that the original code reads: config.json, safetensors in shards, and their index.

    The language model comes first. Everything that sees pictures lies in the last shard together: the original takes
    the CLIP tower from such shards alone as also hold mining or the ConvNeXt. A head that is tied to the embedding is
    not written. A model that was converted from an original keeps the settings that it came with.

    Args:
        model: its tensors are written as they are.
        folder: made if need be; must be empty.
        max_shard_size: of the language model's files.

    Raises:
        ConversionError: the folder is not empty, or the original layout cannot express the model.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionError(f"{folder} is not empty: give a new folder, so that no file of another checkpoint stays")
    changed = model.config.original_aux_tower != tower_digest(model.model.vision_tower_aux)
    dtype = str(next(iter(model.parameters())).dtype).removeprefix("torch.")
    settings = original_config(model.config, dtype, aux_tower_changed=changed)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state[HEAD]
    names = original_names(state)
    original = {names[name]: tensor for name, tensor in state.items()}
    text = {name: tensor for name, tensor in original.items() if name.startswith(OF_THE_LANGUAGE_MODEL)}
    split = split_torch_state_dict_into_shards(text, max_shard_size=max_shard_size)
    shards = [*split.filename_to_tensors.values(), [name for name in original if name not in text]]
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(original, shards, folder, "safetensors")
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
