"""The last layer at some tokens: equal where it is built like LLaMA's or Gemma's, left alone where it is not."""

import copy

import pytest
import torch
from transformers import (
    Cohere2Config,
    Cohere2Model,
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    Glm4vTextConfig,
    Glm4vTextModel,
    GraniteConfig,
    GraniteModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)
from worlds.small_models import build_llava, text_settings

from contralign.models.decoder.last_layer import LastLayer

KNOWN = [
    (LlamaConfig, LlamaModel),
    (MistralConfig, MistralModel),
    (Qwen2Config, Qwen2Model),
    (Qwen3Config, Qwen3Model),
    (Gemma2Config, Gemma2Model),
    (Gemma3TextConfig, Gemma3TextModel),
    (Glm4vTextConfig, Glm4vTextModel),
]
MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
OTHERS = [(Cohere2Config, Cohere2Model), (GraniteConfig, GraniteModel)]
READ_AT = torch.tensor([2, 3, 11, 19])


def build(config_class, model_class, **changes):
    torch.manual_seed(0)
    return model_class(config_class(**text_settings(**changes))).double().eval()


def tokens(dtype=torch.float64):
    return torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)


def read(decoder, last_layer, embeds):
    return decoder(inputs_embeds=embeds, use_cache=False, **last_layer.arguments(READ_AT)).last_hidden_state


@pytest.mark.parametrize(("config_class", "model_class"), KNOWN)
def test_it_equals_the_whole_layer(config_class, model_class):
    decoder = build(config_class, model_class, **(MROPE if config_class is Glm4vTextConfig else {}))
    whole = decoder(inputs_embeds=tokens(), use_cache=False).last_hidden_state.flatten(0, 1)[READ_AT]
    last_layer = LastLayer(decoder)
    for _ in range(2):
        states = read(decoder, last_layer, tokens())
        assert states.shape == (1, 4, 32)
        torch.testing.assert_close(states[0], whole, rtol=1e-12, atol=1e-12)
    assert last_layer.works is True


@pytest.mark.parametrize(("config_class", "model_class"), OTHERS)
def test_another_layer_is_computed_whole(config_class, model_class):
    changes = {"residual_multiplier": 0.5} if config_class is GraniteConfig else {}
    decoder = build(config_class, model_class, **changes)
    whole = decoder(inputs_embeds=tokens(), use_cache=False).last_hidden_state.flatten(0, 1)[READ_AT]
    last_layer = LastLayer(decoder)
    for _ in range(2):
        states = read(decoder, last_layer, tokens())
        found = states[0] if states.shape[:2] == (1, 4) else states.flatten(0, 1)[READ_AT]
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
    assert last_layer.works is False


def test_what_is_behind_attention_runs_on_the_tokens_that_are_read_alone():
    decoder = build(LlamaConfig, LlamaModel)
    last_layer, seen = LastLayer(decoder), []
    read(decoder, last_layer, tokens())
    for layer in (0, -1):
        for module in (decoder.layers[layer].self_attn.o_proj, decoder.layers[layer].mlp):
            module.register_forward_hook(lambda _, __, output: seen.append(output.shape[:2]))
    read(decoder, last_layer, tokens())
    assert seen == [(2, 10), (2, 10), (1, 4), (1, 4)]


def test_a_batch_without_labels_decides_nothing():
    decoder = build(LlamaConfig, LlamaModel)
    last_layer = LastLayer(decoder)
    arguments = last_layer.arguments(READ_AT[:0])
    assert decoder(inputs_embeds=tokens(), use_cache=False, **arguments).last_hidden_state.shape == (1, 0, 32)
    assert last_layer.works is None


def test_dropout_does_not_make_it_look_different():
    decoder = build(LlamaConfig, LlamaModel, attention_dropout=0.5).train()
    last_layer = LastLayer(decoder)
    read(decoder, last_layer, tokens())
    assert last_layer.works is True
    assert decoder.layers[-1].self_attn.training


def test_a_plain_call_and_a_deep_copy_are_as_they_were():
    model = build_llava()
    before = model.get_decoder()(inputs_embeds=tokens(torch.float32)).last_hidden_state
    LastLayer(model.get_decoder())
    torch.testing.assert_close(model.get_decoder()(inputs_embeds=tokens(torch.float32)).last_hidden_state, before)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_decoder().layers[-1].mlp.down_proj.weight.zero_()
    assert not torch.equal(other.get_decoder()(inputs_embeds=tokens(torch.float32)).last_hidden_state, before)
    torch.testing.assert_close(model.get_decoder()(inputs_embeds=tokens(torch.float32)).last_hidden_state, before)


def test_a_forward_that_somebody_else_replaced_is_left_alone():
    decoder = build(LlamaConfig, LlamaModel)
    decoder.layers[-1].forward = decoder.layers[-1].forward
    assert LastLayer(decoder).works is False
