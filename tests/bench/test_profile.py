"""Times by part: a part inside another counts for itself alone, and an absent one is said to be absent."""

from types import SimpleNamespace

import pytest
import torch
from torch.profiler import record_function

from contralign.bench import profile as module
from contralign.bench.profile import PARTS, REST, exclusive_milliseconds, part_times, profile_step
from contralign.bench.steps import BACKWARD, MODES

STEP, ENCODE, CONTRAST = "contralign: step", PARTS["vision tower and projector"], PARTS["contrast pass"]


def event(name, microseconds, parent=None, device_microseconds=0.0):
    return SimpleNamespace(
        name=name,
        cpu_parent=parent,
        time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
        device_time_total=device_microseconds,
        device_type=torch.autograd.DeviceType.CPU,
    )


def events():
    step = event(STEP, 10_000, device_microseconds=50_000)
    contrast = event(CONTRAST, 4_000, step, 30_000)
    operation = event("aten::mm", 3_500, contrast)
    encode = event(ENCODE, 1_000, operation, 5_000)
    again = event(CONTRAST, 2_000, step, 1_000)
    return [step, contrast, operation, encode, again]


def test_a_part_does_not_count_what_is_inside_it():
    assert exclusive_milliseconds(events(), on_device=False) == {STEP: 4.0, CONTRAST: 5.0, ENCODE: 1.0}


def test_on_a_device_the_kernels_are_added_up():
    assert exclusive_milliseconds(events(), on_device=True) == {STEP: 19.0, CONTRAST: 26.0, ENCODE: 5.0}


def test_medians_and_shares_in_the_table_s_order():
    steps = [{STEP: 1.0, CONTRAST: 3.0}, {STEP: 1.0, CONTRAST: 30.0}, {STEP: 1.0, CONTRAST: 3.0}]
    parts = {part.name: part for part in part_times(steps)}
    assert list(parts) == [*PARTS, REST]
    assert (parts["contrast pass"].milliseconds, parts["contrast pass"].share) == (3.0, 0.75)
    assert parts[REST].share == 0.25
    assert parts["backward"].milliseconds is None
    assert parts["backward"].share is None


def test_marks_of_a_real_step_are_found(workload, monkeypatch):
    made = workload()
    plain = MODES["cal"](made)

    def marked(_):
        def forward():
            with record_function(CONTRAST), record_function(ENCODE):
                torch.ones(1000, 100).sum()
            return plain()

        return forward

    monkeypatch.setitem(MODES, "cal", marked)
    parts = {part.name: part for part in profile_step(made, steps=2)}
    for name in ("contrast pass", "vision tower and projector", "backward", REST):
        assert parts[name].milliseconds > 0
    assert sum(part.share or 0 for part in parts.values()) == pytest.approx(1)


def test_the_backward_pass_is_marked_here(workload):
    assert PARTS["backward"] == BACKWARD
    parts = {part.name: part for part in profile_step(workload(checkpointing=True), mode="mle", steps=1)}
    assert parts["backward"].share > 0


def test_the_profiled_steps_start_without_gradients(workload, monkeypatch):
    made, held = workload(), []

    def spied(forward):
        held.append(any(weight.grad is not None for weight in made.model.parameters()))
        return forward().backward()

    monkeypatch.setattr(module, "take_step", spied)
    profile_step(made, steps=3)
    assert held == [False, False, False]
