"""Forecasts of the paper's recipes against the training specification, and of what a run then does."""

from __future__ import annotations

import math

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from worlds.small_recipes import small_plan

from contralign.bench.forecast.render import printed
from contralign.bench.forecast.stages import forecast
from contralign.recipe.recipe_file import find_recipe, load_plan
from contralign.recipe.schema import RecipeError


def of(name: str, *changes: str, **where):
    return forecast(load_plan(find_recipe(name), changes), **where)


def stage(found, name: str):
    return next(each for each in found.stages if each.name == name)


@pytest.mark.parametrize(("name", "projector"), [("llava15_7b", 20_979_712), ("llava15_13b", 31_467_520)])
def test_steps_and_weights_of_llava_are_those_of_the_specification(name, projector):
    found = of(f"{name}/cal")
    pt, it = stage(found, "pt"), stage(found, "it")
    assert (pt.steps, pt.global_batch, it.global_batch) == (2181, 256, 128)
    assert it.steps == math.ceil(665_298 / 128)
    assert pt.learns == {"projector": (projector, 1e-3)}
    assert set(it.learns) == {"projector", "language_model"}
    assert found.problems == [
        "playground/data/LLaVA-Pretrain/blip_laion_cc_sbu_558k.json is not here",
        "playground/data/llava_v1_5_mix665k.json is not here",
    ]


def test_the_tower_of_llava_next_learns_at_a_tenth_of_the_rate():
    it = stage(of("llava_next_7b/baseline"), "it")
    rates = {part: rate for part, (_, rate) in it.learns.items()}
    assert rates == {"projector": 2e-5, "image_newline": 2e-5, "language_model": 2e-5, "vision_tower": 2e-6}
    assert it.cal is None and it.tokens.image == 2340


@pytest.mark.parametrize(("name", "image"), [("mgm_2b", 576), ("mgm_hd_7b", 2880)])
def test_mini_gemini_learns_projector_and_mining_first(name, image):
    it = stage(of(f"{name}/cal"), "it")
    assert it.tokens.image == image
    assert set(it.learns) == {"projector", "language_model"}


def test_mining_belongs_to_the_projector():
    pt = stage(of("mgm_2b/cal"), "pt")
    assert pt.learns == {"projector": (6_295_552 + 6_963_456, 1e-3)}


def test_other_gpus_keep_the_global_batch():
    paper, few = of("llava15_7b/cal"), of("llava15_7b/cal", gpus=2)
    assert [each.global_batch for each in paper.stages] == [each.global_batch for each in few.stages]
    assert [each.accumulation for each in few.stages] == [each.gpus // 2 for each in paper.stages]
    with pytest.raises(RecipeError, match="cannot be shared by 7 devices"):
        of("llava15_7b/cal", gpus=7)


def test_cal_in_one_stage_alone_costs_in_that_stage_alone():
    found = of("llava15_7b/cal", "stages.pt.cal=false")
    pt, it = found.stages
    assert pt.cal is None and pt.plan.mode == "mle" and pt.plan == pt.plain
    assert it.cal is not None and it.plan.mode == "cal"
    assert it.hours == pytest.approx(it.plan.step_seconds * it.steps / 3600)


def test_a_model_whose_shapes_are_not_known_yet_has_steps_and_tokens_all_the_same(tmp_path):
    found = forecast(small_plan(tmp_path))
    (it,) = found.stages
    assert found.parameters is None and it.learns == {} and it.plan is None
    assert (it.steps, it.global_batch, it.records) == (2, 4, 8)
    assert it.tokens.text > it.tokens.labels > 0
    text = " ".join(str(part) if isinstance(part, str) else str(part.title) for part in printed(found))
    assert "known once the start model is built" in text


def test_epochs_count_as_the_trainer_counts_them(tmp_path):
    found = forecast(small_plan(tmp_path, stages={"it": {"steps": None, "epochs": 1.5, "batch_size": 3}}))
    assert found.stages[0].steps == math.ceil(1.5 * 3)


def test_cal_that_accumulates_is_never_told_to_run_under_deepspeed_which_refuses_it():
    """`contralign.training.trainer` refuses form `exact` with accumulation under DeepSpeed."""
    eight = of("llava_next_13b/cal", gpus=8)
    assert [(each.accumulation, each.sharding) for each in eight.stages] == [(2, "fsdp2"), (2, "fsdp2")]
    assert [each.sharding for each in of("mgm_2b/cal").stages] == ["fsdp2", "zero2"]
    assert stage(of("llava_next_13b/baseline", gpus=8), "it").sharding.startswith("zero")
    released = of("llava_next_13b/cal", "cal.form=released", "cal.contrast=mask", gpus=8)
    assert stage(released, "it").sharding.startswith("zero")


def test_a_projector_that_is_still_to_be_trained_is_named():
    assert of("mgm_hd_7b/cal").problems[0].startswith("model.projector runs/mgm_7b-cal-pt/cal is not here")


def test_hours_of_some_stages_are_not_called_the_whole(tmp_path):
    (tmp_path / "mine.json").write_text("[]")
    found = of("llava15_7b/cal", f"data.train={tmp_path / 'mine.json'}", f"data.image_root={tmp_path / 'none'}")
    text = " ".join(part for part in printed(found) if isinstance(part, str))
    assert "h for pt, the rest unknown, on 8 x a100" in text and "in all" not in text


def test_on_one_gpu_the_frozen_language_model_is_float32_as_the_recipe_says():
    """Nothing makes it bfloat16 there: 7.06 billion weights are 26 GiB, and with `model.dtype=bfloat16` 13."""
    alone, half = of("llava15_7b/cal", gpus=1), of("llava15_7b/cal", "model.dtype=bfloat16", gpus=1)
    assert stage(alone, "pt").plan.state_gib == pytest.approx(7.04e9 * 4 / 2**30, rel=0.02)
    assert stage(half, "pt").plan.state_gib == pytest.approx(7.04e9 * 2 / 2**30, rel=0.04)
    assert stage(alone, "pt").sharding == ""


def test_adapters_are_counted_in_the_state_and_quantised_layers_are_not_sharded():
    lora = ["model.lora.parts=[language_model]", "model.dtype=bfloat16"]
    wide, narrow = (stage(of("llava15_7b/cal", *lora, f"model.lora.r={r}", gpus=1), "it").plan for r in (128, 8))
    assert wide.state_gib - narrow.state_gib == pytest.approx(18 * 120 / 128 * 319.8e6 / 2**30, rel=0.02)
    quantized = stage(of("llava15_7b/cal", *lora, "model.quantization=nf4", gpus=8), "it")
    assert quantized.sharding == "ddp"
    assert quantized.plan.state_gib < narrow.state_gib / 2


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("gpus", [1, 2])
def test_steps_are_those_of_the_trainers_own_loader(tmp_path, drop_last, gpus):
    """8 records, micro-batches of 3, accumulated to a batch of 12 or 6."""
    changes = {"steps": None, "epochs": 2, "batch_size": 1, "global_batch": 6}
    recipe = small_plan(tmp_path, stages={"it": changes}, trainer={"dataloader_drop_last": drop_last})
    shards = [
        BatchSamplerShard(BatchSampler(range(8), 1, drop_last), gpus, rank, even_batches=not drop_last)
        for rank in range(gpus)
    ]
    updates = math.ceil(len(shards[0]) / (6 // gpus))
    assert forecast(recipe, gpus).stages[0].steps == 2 * updates
