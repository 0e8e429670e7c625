"""Configurations of the parts that the paper's models are made of, so that shapes are known without a download.

Numbers: training_spec, section 3 (backbone sizes) and 4.2 (the ConvNeXt).
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import CLIPVisionConfig, ConvNextConfig, GemmaConfig, LlamaConfig, PreTrainedConfig

from contralign.models.convert.mini_gemini.towers import OPEN_CLIP_FILES, convnext_tower
from contralign.models.pretrained import load_config
from contralign.models.published_towers import CLIP_L_336, CLIP_LARGE, CONVNEXT_L_320, CONVNEXT_LARGE

VICUNA_7B = "lmsys/vicuna-7b-v1.5"
VICUNA_13B = "lmsys/vicuna-13b-v1.5"
GEMMA_2B = "google/gemma-2b-it"


def _vicuna(hidden_size: int, intermediate_size: int, layers: int, heads: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=32000,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )


PUBLISHED_PARTS: dict[str, Callable[[], PreTrainedConfig]] = {
    VICUNA_7B: lambda: _vicuna(hidden_size=4096, intermediate_size=11008, layers=32, heads=32),
    VICUNA_13B: lambda: _vicuna(hidden_size=5120, intermediate_size=13824, layers=40, heads=40),
    GEMMA_2B: lambda: GemmaConfig(
        vocab_size=256000,
        hidden_size=2048,
        intermediate_size=16384,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        hidden_act="gelu_pytorch_tanh",
        max_position_embeddings=8192,
        rms_norm_eps=1e-6,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
    ),
    CLIP_L_336: lambda: CLIPVisionConfig(**CLIP_LARGE),
    CONVNEXT_L_320: lambda: ConvNextConfig(**copy.deepcopy(CONVNEXT_LARGE), drop_path_rate=0.1, image_size=320),
}
"""Hub name -> its configuration, made anew every time."""


def has_open_clip_file(name: str) -> bool:
    """True for a directory with weights as open_clip saves them, which has no configuration of transformers."""
    return any((Path(name) / file).is_file() for file in OPEN_CLIP_FILES)


def part_config(name: str) -> PreTrainedConfig:
    """The configuration of a language model or a tower.

    Args:
        name: a directory, a name of `PUBLISHED_PARTS` (nothing is fetched), or another name on the hub.

    Raises:
        ValueError: there is none.
    """
    if not Path(name).is_dir() and name in PUBLISHED_PARTS:
        return PUBLISHED_PARTS[name]()
    if has_open_clip_file(name):
        return convnext_tower(Path(name))[0]
    try:
        config: Any = load_config(name)
    except OSError as error:
        raise ValueError(
            f"{name!r} is no model directory, cannot be fetched, and is none of the names whose shapes are known: "
            f"{', '.join(PUBLISHED_PARTS)}"
        ) from error
    return config.vision_config if config.model_type == "clip" else config
