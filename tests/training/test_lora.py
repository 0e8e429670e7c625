"""Adapters on the language model, other parts in full beside them, and one ordinary model at the end."""

import pytest
import torch
from peft import PeftModel
from small_models import build_llava, mixed_batch
from small_smol import small_smol, told
from transformers import AutoModelForImageTextToText

from contralign.training.lora import add_lora, merge_lora
from contralign.training.parts import part_of, train_only
from contralign.training.schema import RecipeError
from contralign.training.settings import LoraSettings


def wrapped(parts=("projector", "language_model"), **settings):
    model = build_llava()
    train_only(model, parts)
    return add_lora(model, LoraSettings(r=2, **settings), parts)


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


def test_a_part_without_a_module_cannot_learn_beside_adapters():
    with pytest.raises(RecipeError, match="image_newline cannot learn beside model"):
        add_lora(build_llava(), LoraSettings(), ["image_newline"])


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
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, merged(**batch).logits)
    assert set(loaded.state_dict()) == set(small_smol()[0].state_dict())
