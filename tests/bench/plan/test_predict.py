from __future__ import annotations

import pytest

from contralign.bench.plan.cluster import Efficiency
from contralign.bench.plan.models import MODELS
from contralign.bench.plan.operations.counting import MODES, Counting
from contralign.bench.plan.predict import predict, predict_all


@pytest.mark.parametrize("name", ["llava15-7b", "llava-next-13b", "mgm-2b"])
@pytest.mark.parametrize("gpu", ["a100", "h100"])
@pytest.mark.parametrize("mode", ["cal", "cal_cached", "released"])
def test_ratios_hardly_depend_on_the_calibrated_number(name, gpu, mode):
    low, high = (
        predict(name, mode, gpus=8, gpu=gpu, efficiency=Efficiency(products=share)).time_ratio for share in (0.3, 0.6)
    )
    # With 256,000 words the traffic of plain logits, which the number does not touch, is a real share of a step.
    assert low == pytest.approx(high, abs=0.04 if name == "mgm-2b" else 0.004)


def test_hours_do_depend_on_it():
    half, whole = (
        predict("llava-next-7b", "mle", gpus=16, gpu="a100", efficiency=Efficiency(products=share)).hours
        for share in (0.25, 0.5)
    )
    assert half / whole == pytest.approx(2, rel=0.02)


def test_hours_are_steps_of_an_epoch():
    plan = predict("llava15-7b", "cal", gpus=8, gpu="a100")
    assert plan.hours == pytest.approx(plan.step_seconds * 665_298 / 128 / 3600)
    assert plan.micro_batch == 16


def test_plain_mle_is_the_measure():
    plan = predict("llava15-7b", "mle", gpus=8, gpu="a100")
    assert plan.time_ratio == plan.flop_ratio == plan.loss_memory_ratio == 1


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("llava-next")])
def test_cal_costs_less_than_a_tenth_of_what_the_released_style_does(name):
    gpus = 128 if name.endswith("72b") else 16
    cal, released = (predict(name, mode, gpus=gpus, gpu="a100").flop_ratio - 1 for mode in ("cal", "released"))
    assert cal < released / 10


def test_the_floor_is_below_what_the_second_pass_adds():
    cal, fused = (
        predict("llava-next-7b", mode, gpus=16, gpu="a100", counting=Counting(share_prefix=False, last_layer="all"))
        for mode in ("cal", "mle_fused")
    )
    added = cal.flops_per_sample / fused.flops_per_sample - 1
    assert 0.8 * cal.floor < added < 1.2 * cal.floor


def test_without_checkpointing_nothing_is_said_of_what_fits():
    plan = predict("llava15-7b", "mle", gpus=8, gpu="a100", checkpointing=False)
    assert plan.fits is None and plan.inputs_gib == 0
    assert plan.floor == pytest.approx(256 / (3 * 832))


def test_checkpointing_takes_time_and_narrows_cals_share():
    with_it, without = (
        predict("llava15-7b", "cal", gpus=8, gpu="a100", checkpointing=checkpointing) for checkpointing in (True, False)
    )
    assert with_it.step_seconds > without.step_seconds
    assert with_it.floor < without.floor


def test_a_72b_model_does_not_fit_on_one_node():
    assert predict("llava-next-72b", "cal", gpus=8, gpu="a100").fits is False
    assert predict("llava-next-72b", "cal", gpus=64, gpu="a100").fits is True


def test_all_modes_come_in_order():
    assert [plan.mode for plan in predict_all("mgm-2b", gpus=8, gpu="h200")] == list(MODES)


def test_ones_own_numbers_do_as_well_as_a_name():
    assert predict(MODELS["mgm-2b"], "cal", gpus=8, gpu="a100") == predict("mgm-2b", "cal", gpus=8, gpu="a100")


def test_checkpointing_said_twice_is_refused():
    with pytest.raises(ValueError, match="recompute='none'"):
        predict("mgm-2b", "cal", gpus=8, gpu="a100", checkpointing=False, counting=Counting())


@pytest.mark.parametrize(("name", "gpu", "known"), [("llava", "a100", "llava15-7b"), ("mgm-2b", "b200", "h200")])
def test_unknown_names_are_answered_with_the_known_ones(name, gpu, known):
    with pytest.raises(ValueError, match=known):
        predict(name, "cal", gpus=8, gpu=gpu)
