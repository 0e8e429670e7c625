"""Adapters on the language model, other parts in full beside them, and one ordinary model at the end."""

import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, LlavaNextConfig, LlavaNextForConditionalGeneration
from worlds.same_numbers import assert_says_the_same
from worlds.small_models import build_llava, mixed_batch
from worlds.small_recipes import small_plan
from worlds.small_smol import small_smol, told

from contralign.recipe.model_settings import LoraSettings
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import Recipe, plain
from contralign.recipe.recipe_file import apply_override
from contralign.recipe.schema import RecipeError, from_mapping
from contralign.run.learning.lora import LOOSE_FILE, add_lora, finished_model, merge_lora
from contralign.run.learning.precision import learn_in_float32
from contralign.run.learning.trainable_parts import part_of, train_only

CLUSTER = Path(__file__).parents[3] / "docs" / "cluster.md"


def wrapped(train=("projector", "language_model"), **settings):
    model = build_llava()
    train_only(model, train)
    return add_lora(model, LoraSettings(r=2, **settings), train)


def test_adapters_sit_on_the_language_model_alone_and_the_projector_learns_in_full():
    names = [name for name, parameter in wrapped().named_parameters() if parameter.requires_grad]
    assert {part_of(name) for name in names if "lora_" in name} == {"language_model"}
    assert {part_of(name) for name in names if "lora_" not in name} == {"projector"}
    assert not any("lm_head" in name for name in names)


def test_named_layers_get_adapters_and_others_do_not():
    adapted = {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, _ in wrapped(target_modules=("q_proj", "v_proj")).named_parameters()
        if "lora_" in name
    }
    assert adapted == {"q_proj", "v_proj"}


def test_a_layer_name_that_is_not_there_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match="no 'q_prj'; did you mean 'q_proj'"):
        wrapped(target_modules="q_prj")


def test_merging_gives_an_ordinary_model_with_the_same_logits():
    model = wrapped()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    batch = mixed_batch()
    with torch.no_grad():
        before = model(**batch).logits
        plain = build_llava()(**batch).logits
        merged = merge_lora(model)
        after = merged(**batch).logits
    assert not isinstance(merged, PeftModel)
    assert type(merged).__name__ == "LlavaForConditionalGeneration"
    assert (before - plain).abs().max() > 0.1
    assert (before - after).abs().max() < 1e-3 * before.abs().max()
    assert set(merged.state_dict()) == set(build_llava().state_dict())


def build_llava_next():
    torch.manual_seed(0)
    parts = build_llava().config
    config = LlavaNextConfig(
        vision_config=parts.vision_config,
        text_config=parts.text_config,
        image_token_index=parts.image_token_index,
        image_grid_pinpoints=[[28, 56], [56, 28]],
        vision_feature_layer=-2,
    )
    return LlavaNextForConditionalGeneration(config)


NEXT_PARTS = ("projector", "language_model", "vision_tower", "image_newline")


def next_learner():
    model = build_llava_next()
    train_only(model, NEXT_PARTS)
    return add_lora(model, LoraSettings(r=2), NEXT_PARTS)


def test_image_newline_learns_beside_adapters_and_a_checkpoint_brings_it_back(tmp_path):
    learner = next_learner()
    assert list(learner.loose_parameters()) == ["base_model.model.model.image_newline"]
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    learner.save_pretrained(str(tmp_path))
    resumed = next_learner()
    resumed.load_adapter(str(tmp_path), "default", is_trainable=True)
    wanted, found = (dict(model.named_parameters()) for model in (learner, resumed))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    merged = merge_lora(resumed)
    assert set(merged.state_dict()) == set(build_llava_next().state_dict())
    assert torch.equal(merged.model.image_newline, learner.get_base_model().model.image_newline)


def test_a_checkpoint_without_the_newline_is_not_gone_on_from_as_if_it_had_one(tmp_path):
    learner = next_learner()
    learner.save_pretrained(str(tmp_path))
    (tmp_path / LOOSE_FILE).unlink()
    with pytest.raises(ValueError, match=r"wanted \['base_model.model.model.image_newline'\], found \[\]"):
        next_learner().load_adapter(str(tmp_path), "default", is_trainable=True)


def test_the_vision_tower_gets_adapters_where_it_is_asked_for_but_not_behind_what_is_read():
    parts = ("projector", "vision_tower", "language_model")
    names = {
        name.split(".lora_")[0]
        for name, parameter in wrapped(parts, parts=("vision_tower", "language_model")).named_parameters()
        if parameter.requires_grad and "lora_" in name
    }
    assert {part_of(name) for name in names} == {"vision_tower", "language_model"}
    tower = {name.split("encoder.layers.")[1][0] for name in names if part_of(name) == "vision_tower"}
    assert tower == {"0"}  # the second and last layer is not read


def test_a_part_that_is_not_to_get_adapters_learns_in_full():
    learner = wrapped(("vision_tower", "language_model"), parts=("vision_tower",))
    full = {
        part_of(name) for name, weight in learner.named_parameters() if weight.requires_grad and "lora_" not in name
    }
    assert full == {"language_model"}


@pytest.mark.parametrize("parts", [(), ("projector",)])
def test_parts_that_cannot_get_adapters_are_refused(parts):
    with pytest.raises(ValueError, match="wanted language_model, vision_tower, or both"):
        LoraSettings(parts=parts)


def test_the_original_recipe_of_llava_is_a_change_on_the_command_line(tmp_path):
    """r 128, alpha 256, 2e-4, and 2e-5 for the projector: docs/cluster.md."""
    recipe = small_plan(tmp_path).recipe
    values = plain(recipe)
    for word in re.findall(r"`(model\.lora=[^`]+)`", CLUSTER.read_text())[0].split(" stages"):
        word = word if word.startswith("model") else f"stages{word}"
        values = apply_override(values, word)
    changed = plan_of(from_mapping(Recipe, values)).recipe
    assert (changed.model.lora.r, changed.model.lora.alpha) == (128, 256)
    assert (changed.stages["it"].learning_rate, changed.stages["it"].projector_learning_rate) == (2e-4, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_finished_model_has_one_dtype_the_one_it_was_loaded_in(dtype, tmp_path):
    build_llava().save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=dtype)
    parts = ("projector", "language_model")
    train_only(model, parts)
    learner = learn_in_float32(add_lora(model, LoraSettings(r=2), parts))
    assert {weight.dtype for weight in learner.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in finished_model(learner).parameters()} == {dtype}


def test_on_internvl_every_linear_layer_learns_with_the_projector_and_reloads_as_it_was(tmp_path):
    model, processor = small_smol()
    parts = ("projector", "language_model")
    train_only(model, parts)
    learner = add_lora(model, LoraSettings(r=2), parts)
    batch = told(processor)
    before = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        learner(**batch).loss.backward()
        optimizer.step()
    moved = {name for name, parameter in learner.named_parameters() if not torch.equal(parameter, before[name])}
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in moved if "lora_B" in name}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert any("multi_modal_projector.modules_to_save" in name for name in moved)
    assert not any("vision_tower" in name or "lm_head" in name or "embed_tokens" in name for name in moved)
    merged = merge_lora(learner).eval()
    merged.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, local_files_only=True).eval()
    assert_says_the_same(merged, loaded, batch)
    assert set(loaded.state_dict()) == set(small_smol()[0].state_dict())
