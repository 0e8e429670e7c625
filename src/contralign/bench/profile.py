"""Where the time of the CAL step goes, by part.

contralign marks its parts with `torch.profiler.record_function`; this file adds them up. A part inside another counts
for itself alone, so that the shares sum to 1.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from contralign.bench.measure import timed_step
from contralign.bench.steps import BACKWARD, MODES, Forward, clear_gradients, take_step
from contralign.bench.tracing import gc_frozen, gc_paused, quiet_profile
from contralign.bench.workload import Workload

PARTS: Mapping[str, str] = {
    "vision tower and projector": "contralign: encode",
    "contrast pass": "contralign: contrast pass",
    "main pass, decoder": "contralign: main pass",
    "head and loss": "contralign: label logits and loss",
    "backward": BACKWARD,
}
"""What the table calls a part, and the mark that the code puts around it."""

REST = "rest"
_STEP = "contralign: step"


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """Time of one part of a step.

    Attributes:
        name: a name in `PARTS`, or `REST`.
        milliseconds: median over the profiled steps; None where the code puts no mark around this part, whose time is
            then in another part or in the rest.
        share: of the step; None likewise.
    """

    name: str
    milliseconds: float | None
    share: float | None


def profile_step(workload: Workload, mode: str = "cal", steps: int = 3) -> list[PartTime]:
    """Profile some steps of a mode after one to warm up.

    Args:
        workload: model and batch.
        mode: a name in `MODES`.
        steps: how many; the profiler itself slows them a little.

    Returns:
        The parts in the order of `PARTS`, then the rest.
    """
    forward = MODES[mode](workload)
    with gc_frozen():
        timed_step(workload, forward)
        return part_times([_marked_milliseconds(workload, forward) for _ in range(steps)])


def part_times(steps: Sequence[Mapping[str, float]]) -> list[PartTime]:
    """Medians and shares from the milliseconds of every mark, the step's own mark holding the rest."""
    seen = {mark for step in steps for mark in step}
    median = {mark: statistics.median(step.get(mark, 0.0) for step in steps) for mark in seen}
    total = sum(median.values())
    named = {**PARTS, REST: _STEP}
    return [
        PartTime(name=name, milliseconds=median.get(mark), share=median[mark] / total if mark in median else None)
        for name, mark in named.items()
    ]


def exclusive_milliseconds(events: Sequence[Any], on_device: bool) -> dict[str, float]:
    """Time of every mark without that of the marks inside it.

    Args:
        events: `FunctionEvent`s of one step; those without a mark of `PARTS` are passed over.
        on_device: add up the kernels that a part launched, instead of the time until it returned.
    """
    marks = {*PARTS.values(), _STEP}
    totals: dict[str, float] = defaultdict(float)
    for event in events:
        if event.name not in marks or event.device_type != torch.autograd.DeviceType.CPU:
            continue
        spent = event.device_time_total if on_device else event.time_range.elapsed_us()
        totals[event.name] += spent / 1000
        around = event.cpu_parent
        while around is not None and around.name not in marks:
            around = around.cpu_parent
        if around is not None:
            totals[around.name] -= spent / 1000
    return dict(totals)


def _marked_milliseconds(workload: Workload, forward: Forward) -> dict[str, float]:
    on_device = workload.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_device
    clear_gradients(workload)
    # One thread for the backward pass too, so that its kernels lie inside its mark.
    with gc_paused(), torch.autograd.set_multithreading_enabled(False), quiet_profile(activities=activities) as trace:
        with record_function(_STEP):
            take_step(forward)
        if on_device:
            torch.cuda.synchronize(workload.device)
    return exclusive_milliseconds(trace.events(), on_device)
