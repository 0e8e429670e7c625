"""QLoRA: a language model in 4 or 8 bits under adapters gives CAL what its dequantised twin gives; it ends ordinary."""

import importlib.util
import json

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText
from worlds.small_models import build_llava, mixed_batch
from worlds.small_recipes import small_plan

from contralign import CalConfig, ContrastiveAlignment
from contralign.recipe.model_settings import LoraSettings, ModelSettings
from contralign.recipe.schema import RecipeError
from contralign.recipe.stage_settings import Stage
from contralign.run.build import load_model, ready_to_learn
from contralign.run.learning.lora import finished_model
from contralign.run.learning.quantization import is_quantized
from contralign.run.run import run_plan

PARTS = ("projector", "language_model")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: pip install 'contralign[qlora]'",
)
each_width = pytest.mark.parametrize("width", ["nf4", "int8"])
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes.*", "ignore::FutureWarning:bitsandbytes.*")


def settings(folder, quantization, **changes):
    return ModelSettings(path=str(folder), quantization=quantization, lora=LoraSettings(r=2), **changes)


def stage(train=PARTS):
    return Stage(train=train, steps=1, learning_rate=1e-3, batch_size=4)


@pytest.fixture
def folder(tmp_path):
    build_llava().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def learner(folder, width, train=PARTS, **changes):
    """With adapters that do something, the same for every width."""
    given = settings(folder, width, **changes)
    model = ready_to_learn(load_model(str(folder), given), given, stage(train))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def dequantized_twin(folder, width, tmp_path, **changes):
    """An unquantised model whose weights are those that the quantised one computes with."""
    rounded = load_model(str(folder), settings(folder, width))
    rounded.dequantize()
    rounded.save_pretrained(tmp_path / "twin")
    return learner(tmp_path / "twin", "none", **changes)


def cal_step(model, **changes):
    torch.manual_seed(0)
    out = ContrastiveAlignment(model, CalConfig(**changes))(mixed_batch())
    out.loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return out, gradients


def test_without_bitsandbytes_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'contralign\[qlora\]'"):
        load_model(str(folder), settings(folder, "nf4"))


@needs_bitsandbytes
@each_width
def test_the_language_model_is_quantised_and_nothing_else(width, folder):
    model = load_model(str(folder), settings(folder, width))
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    quantised = {name for name, module in linear.items() if type(module) is not nn.Linear}
    assert len(quantised) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in quantised)
    assert {"lm_head", "model.multi_modal_projector.linear_1"} <= linear.keys() - quantised


@needs_bitsandbytes
@each_width
@pytest.mark.parametrize("training", [False, True])
def test_a_cal_step_equals_the_one_on_dequantised_weights(training, width, folder, tmp_path):
    """Δ too: its second pass is in eval mode, for which bitsandbytes has other arithmetic on a CPU."""
    found, gradients = cal_step(learner(folder, width).train(training))
    wanted, twins = cal_step(dequantized_twin(folder, width, tmp_path).train(training))
    assert found.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-5)
    assert torch.allclose(found.delta, wanted.delta, rtol=1e-4, atol=1e-4) and wanted.delta.std() > 0.5
    assert gradients.keys() == twins.keys() and len(twins) == 2 * 7 * 2 + 4
    for name in twins:
        assert torch.allclose(gradients[name], twins[name], rtol=1e-3, atol=1e-4 * twins[name].abs().max()), name


@needs_bitsandbytes
@each_width
def test_checkpointing_changes_nothing(width, folder):
    plain, gradients = cal_step(learner(folder, width).train())
    model = learner(folder, width)
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    checkpointed, same = cal_step(model)
    assert checkpointed.loss.item() == pytest.approx(plain.loss.item(), rel=1e-6)
    assert all(torch.allclose(same[name], gradients[name], rtol=1e-4, atol=1e-6) for name in gradients)


@needs_bitsandbytes
@each_width
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_is_an_ordinary_model_that_says_the_same(width, dtype, folder, tmp_path):
    model = learner(folder, width, dtype=dtype).eval()
    batch = mixed_batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        before = model(**batch).logits.float()
    finished_model(model).save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved", dtype="auto").eval()
    assert not is_quantized(saved)
    assert {str(weight.dtype) for weight in saved.parameters()} == {f"torch.{dtype}"}
    assert set(saved.state_dict()) == set(build_llava().state_dict())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        after = saved(**batch).logits.float()
    allowed = 1e-5 if dtype == "float32" else 0.1  # of random weights, larger than any model's
    assert (before - after).abs().max() < allowed * before.abs().max()


@needs_bitsandbytes
@pytest.mark.slow
@each_width
def test_both_stages_of_a_recipe_train_on_a_quantised_language_model(width, tmp_path):
    (tmp_path / "a").mkdir()
    start = run_plan(small_plan(tmp_path / "a"), {}) / "mle"
    pt = {"train": ["projector"], "steps": 2, "learning_rate": 1e-2, "batch_size": 4, "cal": True}
    (tmp_path / "b").mkdir()
    recipe = small_plan(
        tmp_path / "b",
        model={"path": str(start), "tiny": None, "lora": {"r": 4}, "quantization": width},
        stages={"pt": pt, "it": {"steps": 4}},
        arms=None,
        trainer={"save_steps": 2, "activation_checkpointing": True},
    )
    done = run_plan(recipe, {})
    model = AutoModelForImageTextToText.from_pretrained(done / "cal")
    before = AutoModelForImageTextToText.from_pretrained(start)
    assert not is_quantized(model)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before.state_dict()[name])}
    assert any("language_model" in name for name in moved) and any("projector" in name for name in moved)
    assert not any("vision_tower" in name for name in moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"quantization": "nf4"}}, "nf4 weights cannot learn; add model.lora"),
        ({"model": {"quantization": "int8", "lora": {"parts": ["vision_tower"]}}}, "has no effect"),
        (
            {
                "model": {"quantization": "nf4", "lora": {}},
                "stages": {"text": {"kind": "text", "steps": 1, "learning_rate": 1e-3, "batch_size": 4}},
            },
            "learns its parts in full",
        ),
        ({"model": {"dtype": "bfloat16"}}, "needs trainer.bf16: true"),
    ],
)
def test_what_cannot_learn_is_refused(changes, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        small_plan(tmp_path, **changes)
