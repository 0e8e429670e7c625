"""Step times of several modes, interleaved: every round runs every mode once, in an order drawn anew.

Other work on the machine then slows all modes alike, and a ratio is taken inside a round, where it cancels best.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from contralign.bench.memory import PeakMemory, named_out_of_memory, peak_memory
from contralign.bench.steps import MODES, Forward, clear_gradients, take_step
from contralign.bench.tracing import gc_frozen, gc_paused
from contralign.bench.workload import Workload

BASELINE = "mle"
MIN_ROUNDS = 5

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, smallest and largest of what the rounds gave."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of every mode.

    Attributes:
        seconds: of every round, by mode; the rounds of all modes are in the same order.
        memory: peak of a step, by mode; empty where it was not measured.
    """

    seconds: Mapping[str, Sequence[float]]
    memory: Mapping[str, PeakMemory]

    def ratio(self, mode: str, to: str = BASELINE) -> Spread:
        """Time of a mode over that of another in the same round."""
        return spread([a / b for a, b in zip(self.seconds[mode], self.seconds[to], strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Median and range of some numbers."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def choose_modes(names: Sequence[str]) -> list[str]:
    """Modes in the order of the table, the baseline among them always.

    Raises:
        ValueError: no such mode.
    """
    unknown = [name for name in names if name not in MODES]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such mode; wanted some of {', '.join(MODES)}")
    return [name for name in MODES if name in names or name == BASELINE]


def check_rounds(rounds: int) -> None:
    """Refuse a median of too few.

    Raises:
        ValueError: fewer than `MIN_ROUNDS`.
    """
    if rounds < MIN_ROUNDS:
        raise ValueError(f"rounds={rounds}: wanted {MIN_ROUNDS} or more, since a median of fewer says little")


def measure(
    workload: Workload,
    modes: Sequence[str],
    *,
    rounds: int = 7,
    warmup: int = 1,
    with_memory: bool = True,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Measurement:
    """Warm every mode up, take its peak memory, then time all of them round by round.

    Args:
        workload: model and batch that all modes share.
        modes: names in `MODES`, the baseline among them.
        rounds: how often every mode is timed.
        warmup: steps of every mode before that are not timed.
        with_memory: False leaves the memory out.
        seed: of the order inside the rounds.
        progress: told what is being done.

    Raises:
        ValueError: too few rounds, or the baseline is missing.
        OutOfMemory: a mode does not fit.
    """
    check_rounds(rounds)
    if BASELINE not in modes:
        raise ValueError(f"modes={list(modes)}: wanted {BASELINE!r} among them, which every ratio is to")
    with gc_frozen():
        steps: dict[str, Forward] = {}
        memory: dict[str, PeakMemory] = {}
        for mode in modes:
            progress(f"{mode}: warming up")
            with named_out_of_memory(mode, workload.shape):
                steps[mode] = MODES[mode](workload)
                for _ in range(warmup):
                    timed_step(workload, steps[mode])
                if with_memory:
                    progress(f"{mode}: peak memory")
                    clear_gradients(workload)
                    memory[mode] = peak_memory(workload.model, partial(take_step, steps[mode]))
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        order = random.Random(seed)
        for number in range(rounds):
            for mode in order.sample(list(modes), len(modes)):
                progress(f"round {number + 1} of {rounds}: {mode}")
                with named_out_of_memory(mode, workload.shape):
                    seconds[mode].append(timed_step(workload, steps[mode]))
    return Measurement(seconds=seconds, memory=memory)


def timed_step(workload: Workload, forward: Forward) -> float:
    """Seconds of forward and backward from no gradients at all."""
    clear_gradients(workload)
    with gc_paused():
        _finish_device_work(workload)
        started = time.perf_counter()
        take_step(forward)
        _finish_device_work(workload)
        return time.perf_counter() - started


def _finish_device_work(workload: Workload) -> None:
    if workload.device.type == "cuda":
        torch.cuda.synchronize(workload.device)
