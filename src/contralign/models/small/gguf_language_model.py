"""SmolLM2 out of a GGUF file: an ordinary language model with full weights, and its tokenizer."""

from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerFast


def read_gguf_language_model(path: Path) -> PreTrainedModel:
    """The language model of a GGUF file, float32; nothing in it remembers that its weights were quantised.

    Raises:
        ValueError: the `gguf` package is missing.
    """
    _require_gguf()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        trust_remote_code=False,
    )
    for name in ("quantization_config", "_pre_quantization_dtype"):
        model.config.__dict__.pop(name, None)  # a saved model would be taken for a quantised one
    return model


def read_gguf_tokenizer(path: Path, image_token: str) -> PreTrainedTokenizerFast:
    """The tokenizer of SmolLM2's GGUF file, with a token for pictures.

    transformers reads words and merges but not how SmolLM2 cuts text before: every digit by itself.

    Raises:
        ValueError: the `gguf` package is missing.
    """
    _require_gguf()
    read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    backend = read.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=read.bos_token,
        eos_token=read.eos_token,
        unk_token=read.unk_token,
        pad_token=read.pad_token,
        extra_special_tokens={"image_token": image_token},
        model_max_length=8192,
        padding_side="right",
    )


def _require_gguf() -> None:
    if find_spec("gguf") is None:
        raise ValueError("reading a GGUF language model needs gguf: pip install 'contralign[smol]'")
