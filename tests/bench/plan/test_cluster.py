from __future__ import annotations

from dataclasses import replace

import pytest

from contralign.bench.plan.cluster import Cluster, Efficiency
from contralign.bench.plan.gpus import GIB, GPUS
from contralign.bench.plan.models import MODELS
from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.counts import count

WEIGHTS = MODELS["llava-next-7b"].trained_parameters
PERFECT = Efficiency(products=1, memory=1, network=1)


def cluster(name: str = "llava-next-7b", gpus: int = 16, accumulation: int = 1, **changes) -> Cluster:
    settings = {"gpu": GPUS["a100"], "efficiency": PERFECT, **changes}
    return Cluster(model=MODELS[name], gpus=gpus, accumulation=accumulation, **settings)


def test_compute_time_is_operations_over_peak_and_bytes_over_bandwidth():
    cost = count(MODELS["llava-next-7b"], "mle").total
    by_hand = 8 * (cost.flops / 312e12 + cost.bytes / 2039e9)
    assert cluster().compute_seconds(cost) == pytest.approx(by_hand)


def test_half_the_efficiency_takes_twice_the_time():
    cost = count(MODELS["llava-next-7b"], "mle").total
    half = cluster(efficiency=Efficiency(products=0.5, memory=0.5, network=0.5))
    assert half.compute_seconds(cost) == pytest.approx(2 * cluster().compute_seconds(cost))
    assert half.gather_seconds(WEIGHTS) == pytest.approx(2 * cluster().gather_seconds(WEIGHTS))


def test_a_gather_moves_two_bytes_of_every_weight_that_is_not_there():
    assert cluster().gather_seconds(WEIGHTS) == pytest.approx(2 * WEIGHTS * 15 / 16 / 200e9)
    assert cluster(gpus=1).gather_seconds(WEIGHTS) == 0


def test_a_network_of_ones_own_counts_between_nodes_alone():
    assert cluster(node_bandwidth=50e9).gather_seconds(WEIGHTS) == pytest.approx(4 * cluster().gather_seconds(WEIGHTS))
    assert cluster(gpus=8, node_bandwidth=50e9).gather_seconds(WEIGHTS) == cluster(gpus=8).gather_seconds(WEIGHTS)


def test_a_fast_pass_waits_for_its_weights_under_zero3():
    slow = cluster(node_bandwidth=1e9)
    cost = count(MODELS["llava-next-7b"], "cal", Counting(rows=8))
    fused = count(MODELS["llava-next-7b"], "mle_fused", Counting(rows=8))
    assert slow.compute_seconds(cost.contrast) < slow.gather_seconds(WEIGHTS)
    assert slow.step_seconds(cost) - slow.step_seconds(fused) == pytest.approx(slow.gather_seconds(WEIGHTS))


def test_zero2_gathers_once_a_step_whatever_the_mode():
    slow = cluster("mgm-7b", node_bandwidth=1e9)
    cost, fused = (count(MODELS["mgm-7b"], mode, Counting(rows=8)) for mode in ("cal", "mle_fused"))
    added = slow.step_seconds(cost) - slow.step_seconds(fused)
    assert added == pytest.approx(slow.compute_seconds(cost.contrast))


def test_accumulation_gathers_again_for_every_micro_batch():
    cost = count(MODELS["llava-next-7b"], "mle")
    once, twice = cluster(node_bandwidth=1e9), cluster(accumulation=2, node_bandwidth=1e9)
    assert twice.micro_batch == 4
    assert twice.step_seconds(cost) == pytest.approx(2 * once.step_seconds(cost), rel=0.01)


def test_state_is_16_bytes_of_every_trained_weight_spread_over_zero3():
    model = MODELS["llava-next-7b"]
    assert cluster().state_bytes() == model.trained_parameters
    assert cluster(gpus=1).state_bytes() / GIB > GPUS["a100"].memory_gib


def test_zero2_holds_all_weights_everywhere():
    model = MODELS["mgm-7b"]
    held = cluster("mgm-7b").state_bytes() - 2 * model.frozen_parameters
    assert held == pytest.approx((2 + 14 / 16) * model.trained_parameters)


@pytest.mark.parametrize(("gpus", "accumulation"), [(24, 1), (0, 1), (256, 1), (16, 3), (16, 0)])
def test_a_batch_that_does_not_divide_is_refused(gpus, accumulation):
    with pytest.raises(ValueError, match="128 samples does not divide"):
        cluster(gpus=gpus, accumulation=accumulation)


def test_no_share_of_a_peak_is_above_one():
    with pytest.raises(ValueError, match=r"network=1\.5"):
        Efficiency(network=1.5)


def test_a_frozen_language_model_has_no_gradient_and_no_state_and_is_still_gathered():
    whole = cluster("llava15-7b")
    frozen = replace(whole, model=replace(whole.model, train_decoder=False))
    model = frozen.model
    assert model.trained_parameters == model.projector_weights
    assert model.trained_parameters + model.frozen_parameters == sum(
        (whole.model.trained_parameters, whole.model.frozen_parameters)
    )
    assert frozen.sharded_parameters == whole.sharded_parameters == whole.model.trained_parameters
    assert frozen.state_bytes() < whole.state_bytes() / 4


def test_mining_is_trained_with_the_projector():
    plain, mined = (replace(cluster(name).model, train_decoder=False) for name in ("llava15-7b", "mgm-7b"))
    assert mined.trained_parameters - plain.trained_parameters == pytest.approx(6_963_456, rel=0.01)
