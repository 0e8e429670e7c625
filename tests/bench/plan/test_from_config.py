"""Sizes read from configurations, against the weights of the models that these configurations build."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    Qwen2VLConfig,
)

from contralign.bench.plan.from_config import decoder_of, tower_of
from contralign.bench.plan.models import GEMMA_2B, MODELS, VICUNA_7B
from contralign.bench.plan.shapes import Tower


def llava_7b() -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(num_key_value_heads=32, tie_word_embeddings=False)
    return LlavaConfig(vision_config=vision, text_config=text, vision_feature_layer=-2)


def test_the_sizes_of_llava_are_those_of_the_table():
    assert decoder_of(llava_7b()) == replace(VICUNA_7B, head_dim=128)
    assert tower_of(llava_7b()) == Tower()


def test_gemma_is_read_with_its_own_head_width_and_its_tied_head():
    text = GemmaConfig(
        hidden_size=2048,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        intermediate_size=16384,
        vocab_size=256000,
    )
    assert decoder_of(text) == GEMMA_2B


def test_counted_weights_are_those_of_the_model():
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(llava_7b())
    counted = sum(p.numel() for name, p in model.named_parameters() if "vision_tower" not in name)
    table = MODELS["llava15-7b"]
    assert counted == pytest.approx(table.decoder.parameters + table.projector_weights, rel=1e-3)


def test_a_tower_that_is_no_clip_is_not_guessed():
    assert tower_of(Qwen2VLConfig()) is None


def test_a_language_model_without_a_size_is_refused_by_its_name():
    with pytest.raises(ValueError, match="MambaConfig has no num_attention_heads"):
        decoder_of(MambaConfig())
