"""Shapes of the paper's parts, known without a download."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM
from transformers.initialization import no_init_weights
from worlds.small_parts import WHOLE_CLIP, write_clip, write_convnext, write_llama

from contralign.models.assembly.published_parts import GEMMA_2B, VICUNA_7B, VICUNA_13B, part_config
from contralign.models.published_towers import CLIP_L_336, CONVNEXT_L_320


def count(config, kind):
    with torch.device("meta"), no_init_weights():
        model = kind.from_config(config)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [
        (VICUNA_7B, AutoModelForCausalLM, 6_738_415_616),
        (VICUNA_13B, AutoModelForCausalLM, 13_015_864_320),
        (GEMMA_2B, AutoModelForCausalLM, 2_506_172_416),
        (CLIP_L_336, AutoModel, 303_507_456),
    ],
)
def test_known_parts_have_the_published_number_of_parameters(name, kind, parameters):
    assert count(part_config(name), kind) == parameters


def test_the_convnext_has_the_specs_stages():
    config = part_config(CONVNEXT_L_320)
    assert (config.hidden_sizes, config.depths) == ([192, 384, 768, 1536], [3, 3, 27, 3])
    assert config.drop_path_rate == 0.1


def test_numbers_that_no_count_shows():
    vicuna, gemma = part_config(VICUNA_7B), part_config(GEMMA_2B)
    assert (vicuna.rms_norm_eps, vicuna.max_position_embeddings, vicuna.tie_word_embeddings) == (1e-5, 4096, False)
    assert (gemma.rms_norm_eps, gemma.max_position_embeddings, gemma.tie_word_embeddings) == (1e-6, 8192, True)
    assert (gemma.hidden_act, gemma.head_dim, gemma.num_key_value_heads) == ("gelu_pytorch_tanh", 256, 1)
    assert vicuna.rope_parameters["rope_theta"] == gemma.rope_parameters["rope_theta"] == 1e4
    assert part_config(CLIP_L_336).hidden_act == "quick_gelu"


def test_every_call_makes_a_configuration_of_its_own():
    part_config(VICUNA_7B).vocab_size = 1
    assert part_config(VICUNA_7B).vocab_size == 32000


def test_directories_are_read(tmp_path):
    write_llama(tmp_path / "words")
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "sight")
    assert (tmp_path / "sight" / WHOLE_CLIP).is_file()
    assert part_config(str(tmp_path / "words")).model_type == "llama"
    assert part_config(str(tmp_path / "clip")).model_type == "clip_vision_model"
    assert part_config(str(tmp_path / "sight")).hidden_sizes == [4, 8, 12, 16]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'no/such' is no model directory.*lmsys/vicuna-7b-v1\.5"):
        part_config("no/such")
