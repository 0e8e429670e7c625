"""Small parts on disk, as the hub holds the true ones: language models, a whole CLIP, an open_clip ConvNeXt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from contralign.models.convert.mini_gemini.names import original_names
from contralign.models.convert.tokenizers.sentencepiece_tokenizer import read_tokenizer
from contralign.models.mini_gemini.convnext import MiniGeminiAuxTower

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def write_llama(folder: Path) -> LlamaForCausalLM:
    """A Vicuna-like directory: safetensors, tokenizer.model, tokenizer_config.json."""
    return _write(folder, "tiny_llama_tokenizer", LlamaConfig, LlamaForCausalLM, num_key_value_heads=4)


def write_gemma(folder: Path) -> GemmaForCausalLM:
    """A Gemma-like directory; head and embeddings are one."""
    return _write(folder, "gemma_like_tokenizer", GemmaConfig, GemmaForCausalLM, num_key_value_heads=1, head_dim=8)


def write_clip(folder: Path) -> CLIPModel:
    """A whole CLIP, text half included."""
    tower = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        hidden_act="quick_gelu",
    )
    words = CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20
    )
    model = CLIPModel(CLIPConfig(text_config=words.to_dict(), vision_config=tower.to_dict()))
    model.save_pretrained(folder)
    return model


def write_convnext(folder: Path) -> MiniGeminiAuxTower:
    """A directory as open_clip saves it: the trunk under its own names, with a head and a text half beside it."""
    tower = MiniGeminiAuxTower(ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 2, 1], image_size=128))
    names = original_names(f"model.vision_tower_aux.{name}" for name in tower.state_dict())
    state = {
        original.removeprefix("model.vision_tower_aux.").replace("vision_", "visual.trunk.", 1): tensor.clone()
        for original, tensor in zip(names.values(), tower.state_dict().values(), strict=True)
    }
    folder.mkdir()
    torch.save({**state, "visual.head.proj.weight": torch.zeros(2), "text.x": torch.zeros(2)}, folder / WHOLE_CLIP)
    return tower


WHOLE_CLIP = "open_clip_pytorch_model.bin"


def as_shards_of_bin(source: Path, target: Path) -> None:
    """The same model in two pickled shards, as Vicuna is published."""
    from safetensors.torch import load_file

    target.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, target)
    state = load_file(source / "model.safetensors")
    names = sorted(state)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for name, own in halves.items():
        torch.save({key: state[key] for key in own}, target / name)
    weight_map = {key: name for name, own in halves.items() for key in own}
    (target / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _write(folder: Path, tokenizer: str, config, kind, **sizes):
    words = read_tokenizer(GOLDEN / tokenizer)
    model = kind(
        config(
            vocab_size=len(words),
            **SIZES,
            **sizes,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    for file in (GOLDEN / tokenizer).iterdir():
        shutil.copy(file, folder)
    return model
