"""Parts by name, on models whose modules are named in different ways."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText
from worlds.families.registry import FAMILIES
from worlds.small_mini_gemini import build_mini_gemini
from worlds.small_models import build_llava

from contralign.recipe.model_settings import LoraSettings
from contralign.recipe.schema import RecipeError
from contralign.run.learning.lora import add_lora
from contralign.run.learning.trainable_parts import freeze_unread_layers, parameter_groups, part_of, train_only


def learning(model):
    return {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", "vision_tower"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision_tower"),
        ("model.visual.merger.mlp.0.weight", "projector"),
        ("model.connector.modality_projection.proj.weight", "projector"),
        ("model.multi_modal_projector.linear_1.weight", "projector"),
        ("base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight", "language_model"),
        ("lm_head.weight", "language_model"),
        ("model.text_model.embed_tokens.weight", "language_model"),
        ("model.image_newline", "image_newline"),
        ("model.vision_tower_aux.encoder.stages.0.layers.0.dwconv.weight", "vision_tower"),
        ("model.patch_mining.query.1.weight", "projector"),
        ("model.visually_else.weight", None),
    ],
)
def test_the_longest_place_decides_what_a_parameter_belongs_to(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize("part", ["projector", "vision_tower", "language_model"])
def test_one_part_learns_and_the_others_are_frozen(part):
    model = build_llava()
    counts = train_only(model, [part])
    assert learning(model) == {part}
    assert counts[part] == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_what_was_frozen_learns_again_when_it_is_named():
    model = build_llava()
    train_only(model, ["projector"])
    train_only(model, ["language_model"])
    assert learning(model) == {"language_model"}


def test_a_part_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(RecipeError, match="has no image_newline; it has projector, vision_tower, language_model"):
        train_only(build_llava(), ["projector", "image_newline"])


@pytest.mark.parametrize(
    "family", ["llava_next", "qwen2_vl", "qwen3_vl", "idefics3", "internvl", "gemma3", "paligemma", "glm4v"]
)
def test_every_parameter_of_the_common_families_belongs_to_a_part(family):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[family]())
    parts = {name: part_of(name) for name, _ in model.named_parameters()}
    assert [name for name, part in parts.items() if part is None] == []
    assert {"projector", "vision_tower", "language_model"} <= set(parts.values())


def test_layers_after_the_one_that_is_read_are_frozen_and_get_no_gradient():
    model = build_llava()
    train_only(model, ["vision_tower", "projector", "language_model"])
    frozen = freeze_unread_layers(model)
    assert any(name.endswith("layers.1") for name in frozen)
    assert any(name.endswith("post_layernorm") for name in frozen)
    pixels = torch.randn(1, 3, 28, 28)
    model(input_ids=torch.tensor([[1, 90, 90, 90, 90, 5]]), pixel_values=pixels).logits.sum().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


def test_parts_get_their_own_learning_rates_and_only_matrices_decay():
    model = build_llava()
    train_only(model, ["vision_tower", "projector", "language_model"])
    groups = parameter_groups(model, 1e-3, {"vision_tower": 1e-4, "projector": 2e-3}, 0.1)
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    rates = {"vision_tower": 1e-4, "projector": 2e-3, "language_model": 1e-3}
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        assert group["lr"] == rates[part_of(name)]
        assert group["weight_decay"] == (0.1 if parameter.ndim >= 2 else 0.0)


def test_frozen_parts_are_in_no_group():
    model = build_llava()
    train_only(model, ["projector"])
    groups = parameter_groups(model, 1e-3, {"projector": 2e-3}, 0.1)
    grouped = {id(p) for group in groups for p in group["params"]}
    assert grouped == {id(p) for name, p in model.named_parameters() if part_of(name) == "projector"}


def test_behind_adapters_the_projector_still_gets_its_own_rate():
    model = build_llava()
    parts = ["projector", "language_model"]
    train_only(model, parts)
    wrapped = add_lora(model, LoraSettings(r=2), parts)
    rates = {group["lr"]: group["params"] for group in parameter_groups(wrapped, 1e-3, {"projector": 2e-3}, 0.0)}
    names = {id(p): name for name, p in wrapped.named_parameters()}
    assert {part_of(names[id(p)]) for p in rates[2e-3]} == {"projector"}
    assert all("lora_" in names[id(p)] for p in rates[1e-3])


def test_of_mini_geminis_towers_the_unread_end_of_clip_is_frozen_and_the_convnext_is_read_whole():
    model = build_mini_gemini()
    train_only(model, ["vision_tower"])
    last = len(model.model.vision_tower.encoder.layers) - 1
    frozen = {f"model.vision_tower.encoder.layers.{last}", "model.vision_tower.post_layernorm"}
    assert set(freeze_unread_layers(model)) == frozen
    assert all(parameter.requires_grad for parameter in model.model.vision_tower_aux.parameters())


def test_without_decay_a_rate_is_one_group():
    model = build_llava()
    train_only(model, ["vision_tower", "language_model"])
    assert len(parameter_groups(model, 1e-3, {"vision_tower": 1e-4}, 0.0)) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_every_family_belongs_to_a_part(family):
    with torch.device("meta"):
        model = FAMILIES[family].make()
    nowhere = [name for name, _ in model.named_parameters() if part_of(name) is None]
    assert not nowhere
    assert set(train_only(model, ["projector"])) == {"projector"}
