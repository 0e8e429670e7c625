"""A config with no settings is the published model; settings that do not fit are refused."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForImageTextToText, ConvNextConfig, GemmaConfig, LlamaConfig
from worlds.small_mini_gemini import small_config

from contralign.models.mini_gemini import MiniGeminiConfig, MiniGeminiModel

VICUNA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
GEMMA_2B = {
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize("grid, tokens, side", [(1, 576, 768), (2, 2880, 1536)])
def test_a_config_with_no_settings_has_the_published_towers(grid, tokens, side):
    config = MiniGeminiConfig(image_grid=grid)
    assert config.image_seq_length == tokens == (grid**2 + 1 if grid > 1 else 1) * 24**2
    assert config.aux_config.image_size == side
    assert sum(config.aux_config.hidden_sizes) == 2880
    assert config.image_token_id == 32000


@pytest.mark.parametrize(
    "text, projector", [(LlamaConfig(**VICUNA_7B), 20_979_712), (GemmaConfig(**GEMMA_2B), 6_295_552)]
)
def test_parameters_at_true_size_are_as_many_as_the_original_has(text, projector):
    """Spec, section 3: projector by language model, and the three mining modules."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(MiniGeminiConfig(text_config=text))

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(model.model.multi_modal_projector) == projector
    assert count(model.model.patch_mining.query) == 1_051_648
    assert count(model.model.patch_mining.key) == count(model.model.patch_mining.value) == 2_955_904
    assert len([name for name, _ in model.model.vision_tower_aux.named_modules() if name.endswith(".dwconv")]) == 36


@pytest.mark.parametrize("grid, tokens", [(1, 576), (2, 2880)])
def test_features_at_true_size_are_576_and_2880_tokens_as_wide_as_words(grid, tokens):
    """Shapes alone: a meta device runs every operation of towers, mining and projector without numbers."""
    with torch.device("meta"):
        model = MiniGeminiModel(MiniGeminiConfig(text_config=GemmaConfig(**GEMMA_2B), image_grid=grid))
        slots = () if grid == 1 else (5,)
        small, large = torch.empty(2, *slots, 3, 336, 336), torch.empty(2, 3, 768 * grid, 768 * grid)
        with torch.no_grad():
            features = model.get_image_features(small, large).pooler_output
    assert [tuple(each.shape) for each in features] == [(tokens, 2048)] * 2


def test_the_image_tokens_id_lies_behind_the_vocabulary():
    assert MiniGeminiConfig(text_config=GemmaConfig(**GEMMA_2B)).image_token_id == 256000
    assert small_config(image_token_id=5).image_token_id == 5


def test_the_scale_and_the_tied_head_follow_the_language_model():
    llama, gemma = small_config(), small_config(text="gemma")
    assert (llama.scale_image_features, gemma.scale_image_features) == (False, True)
    assert (llama.tie_word_embeddings, gemma.tie_word_embeddings) == (False, True)
    assert small_config(text="gemma", scale_image_features=False).scale_image_features is False


def test_both_gelus_of_gemma_are_settings_and_survive_saving(tmp_path):
    acts = {}
    for gelu in (None, "tanh", "exact"):
        small_config(text="gemma", text_gelu=gelu).save_pretrained(tmp_path)
        acts[gelu] = AutoConfig.from_pretrained(tmp_path).text_config.hidden_act
    assert acts == {None: "gelu_pytorch_tanh", "tanh": "gelu_pytorch_tanh", "exact": "gelu_python"}


@pytest.mark.parametrize("grid", [1, 2])
def test_a_saved_config_comes_back_through_auto(tmp_path, grid):
    config = small_config(grid, text="gemma", aux_drop_path=0.3, scale_image_features=False)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is MiniGeminiConfig
    assert loaded.to_json_string() == config.to_json_string()
    assert loaded.aux_config.drop_path_rate == 0.3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"text_gelu": "exact"}, "choice of Gemma, and text_config is llama"),
        ({"aux_drop_path": 1.0}, "wanted a rate, 0 or more and less than 1"),
        ({"aux_config": ConvNextConfig(image_size=64, drop_path_rate=0.2)}, "set aux_drop_path alone"),
        ({"aux_config": ConvNextConfig(image_size=72)}, "map of 18 places .* 24 patches .* multiple of 96"),
        ({"aux_config": ConvNextConfig(image_size=96), "image_grid": 2}, "multiple of 192"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MiniGeminiConfig(**settings)


def test_a_grid_that_was_never_published_is_refused():
    with pytest.raises(StrictDataclassError, match="'image_grid' expected one of"):
        MiniGeminiConfig(image_grid=3)
