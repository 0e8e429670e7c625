"""Interleaved rounds, and ratios taken inside them."""

import gc

import pytest
import torch

from contralign.bench import measure as module
from contralign.bench.measure import Measurement, choose_modes, measure, spread, timed_step
from contralign.bench.memory import OutOfMemory, PeakMemory
from contralign.bench.steps import MODES


@pytest.fixture
def quick_modes(monkeypatch):
    """Modes that only say that they ran."""
    ran = []

    def mode(name):
        def prepare(workload):
            def forward():
                ran.append((name, gc.isenabled(), any(p.grad is not None for p in workload.model.parameters())))
                return sum(p.sum() for p in workload.model.parameters() if p.requires_grad)

            return forward

        return prepare

    for name in MODES:
        monkeypatch.setitem(MODES, name, mode(name))
    return ran


def test_every_round_runs_every_mode_once_in_changing_order(workload, quick_modes):
    modes = ["mle", "cal", "released"]
    measured = measure(workload(), modes, rounds=6, with_memory=False)
    timed = [name for name, _, _ in quick_modes][3:]  # after one warm-up each
    rounds = [timed[start : start + 3] for start in range(0, 18, 3)]
    assert all(sorted(names) == sorted(modes) for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    assert {mode: len(values) for mode, values in measured.seconds.items()} == dict.fromkeys(modes, 6)
    assert all(value > 0 for values in measured.seconds.values() for value in values)
    assert not measured.memory


def test_a_step_starts_without_gradients_and_runs_without_garbage_collection(workload, quick_modes):
    measure(workload(), ["mle", "cal"], rounds=5)
    assert {(collects, held) for _, collects, held in quick_modes} == {(False, False)}


def test_the_seed_decides_the_order(workload, quick_modes):
    made, orders = workload(), []
    for seed in (1, 1, 2):
        quick_modes.clear()
        measure(made, ["mle", "cal"], rounds=9, with_memory=False, seed=seed)
        orders.append([name for name, _, _ in quick_modes])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_ratios_are_taken_inside_a_round():
    measured = Measurement(seconds={"mle": [1.0, 10.0, 2.0], "cal": [2.0, 10.0, 1.0]}, memory={})
    ratio = measured.ratio("cal")
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 2.0)
    assert measured.ratio("mle", to="cal").high == 2.0
    assert measured.ratio("mle") == spread([1.0])


def test_memory_is_measured_of_every_mode(workload):
    measured = measure(workload(), ["mle", "mle_fused"], rounds=5)
    assert set(measured.memory) == {"mle", "mle_fused"}
    assert measured.memory["mle"].parameters == measured.memory["mle_fused"].parameters
    assert all(peak.step > 0 for peak in measured.memory.values())


def test_progress_tells_what_is_done(workload, quick_modes):
    told = []
    measure(workload(), ["mle"], rounds=5, progress=told.append)
    assert told[:2] == ["mle: warming up", "mle: peak memory"]
    assert told[-1] == "round 5 of 5: mle"


def test_too_few_rounds_are_refused(workload):
    with pytest.raises(ValueError, match="rounds=4: wanted 5 or more"):
        measure(workload(), ["mle"], rounds=4)


def test_the_baseline_may_not_be_missing(workload):
    with pytest.raises(ValueError, match="wanted 'mle' among them"):
        measure(workload(), ["cal"])


def test_modes_are_chosen_with_the_baseline_in_the_table_s_order():
    assert choose_modes(["released", "cal"]) == ["mle", "cal", "released"]
    assert choose_modes(list(MODES)) == list(MODES)
    with pytest.raises(ValueError, match="call: no such mode; wanted some of mle, mle_fused, cal"):
        choose_modes(["call", "mle"])


def test_a_mode_without_room_is_named(workload, monkeypatch):
    def greedy(made):
        def forward():
            raise torch.OutOfMemoryError("no room")

        return forward

    monkeypatch.setitem(MODES, "released", greedy)
    with pytest.raises(OutOfMemory, match="released ran out of memory"):
        measure(workload(), ["mle", "released"], rounds=5)


def test_a_timed_step_leaves_its_gradients(workload):
    made = workload()
    assert timed_step(made, MODES["mle"](made)) > 0
    assert any(weight.grad is not None for weight in made.model.parameters())


def test_peak_memory_is_taken_from_no_gradients(workload, monkeypatch):
    made, held = workload(), []

    def peak(model, step):
        held.append(any(weight.grad is not None for weight in model.parameters()))
        return PeakMemory(parameters=1, step=1)

    monkeypatch.setattr(module, "peak_memory", peak)
    measure(made, ["mle", "cal"], rounds=5)
    assert held == [False, False]
