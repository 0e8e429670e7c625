"""Weights that learn are float32: at the rates of instruction tuning bfloat16 loses most of AdamW's steps."""

import pytest
import torch
from worlds.small_models import build_llava, mixed_batch
from worlds.small_recipes import small_plan

from contralign import CalConfig, ContrastiveAlignment
from contralign.run.learning.precision import learn_in_float32
from contralign.run.learning.trainable_parts import train_only
from contralign.run.run import run_plan


def learner(parts=("projector",)):
    model = build_llava(torch.bfloat16)
    train_only(model, parts)
    return learn_in_float32(model)


def test_what_learns_is_float32_and_the_rest_keeps_its_dtype():
    dtypes = {(weight.requires_grad, weight.dtype) for weight in learner().parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}


def test_other_dtypes_stay():
    model = build_llava(torch.float64)
    assert {weight.dtype for weight in learn_in_float32(model).parameters()} == {torch.float64}


def test_adamw_at_2e_5_moves_float32_weights_and_hardly_any_in_bfloat16():
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(torch.randn(10_000, generator=torch.Generator().manual_seed(0)).to(dtype))
        before = weight.detach().clone()
        optimizer = torch.optim.AdamW([weight], lr=2e-5, weight_decay=0.0)
        for _ in range(20):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        moved[dtype] = (weight != before).float().mean().item()
    assert moved[torch.float32] == 1.0
    assert moved[torch.bfloat16] < 0.05


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("parts", [("projector",), ("projector", "language_model")])
def test_cal_on_two_dtypes_is_cal_in_mixed_precision(parts, checkpointing):
    """The projector in float32 on a bfloat16 language model, under autocast, against all of it in float32."""
    losses, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        model = build_llava(torch.bfloat16).to(dtype).train()
        train_only(model, parts)
        learn_in_float32(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with torch.autocast("cpu", torch.bfloat16):
            out = ContrastiveAlignment(model, CalConfig())(mixed_batch())
        out.loss.backward()
        losses.append(out.loss.item())
        gradients.append(model.model.multi_modal_projector.linear_2.weight.grad)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert gradients[1].dtype == torch.float32
    assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.9


def test_a_recipe_in_bfloat16_learns_and_saves_in_its_dtype(tmp_path):
    from safetensors.torch import load_file

    recipe = small_plan(tmp_path, model={"dtype": "bfloat16"}, trainer={"bf16": True}, arms=None)
    done = run_plan(recipe, {})
    assert {weight.dtype for weight in load_file(done / "cal" / "model.safetensors").values()} == {torch.bfloat16}
