"""What each saving of the CAL step brings: the step with one of them switched off, over plain Hugging Face MLE.

python benchmarks/step_parts.py [vocabulary] [image tokens] [rounds]
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from typing import Any

from contralign import CalConfig, ContrastiveAlignment
from contralign.bench.measure import timed_step
from contralign.bench.steps import MODES
from contralign.bench.tracing import gc_frozen
from contralign.bench.workload import make_workload
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage


def step(workload: Any, change: Callable[[ContrastiveAlignment], object] = lambda _: None) -> Callable[[], Any]:
    """A CAL step after something was changed about it; the first call decides about the last layer."""
    alignment = ContrastiveAlignment(workload.model, CalConfig())
    alignment(workload.batch)
    change(alignment)
    return lambda: alignment(workload.batch).loss


def whole_last_layer(alignment: ContrastiveAlignment) -> None:
    alignment.adapter._last_layer.works = False


def one_sample_a_row(alignment: ContrastiveAlignment) -> None:
    alignment.contrast = DropImage(pack=False)


def keys_hidden(alignment: ContrastiveAlignment) -> None:
    alignment.contrast = MaskImage()


def main(vocabulary: int = 2048, image_tokens: int = 576, rounds: int = 9) -> None:
    workload = make_workload("llava15", "cpu", vocabulary=vocabulary, image_tokens=image_tokens)
    steps = {
        "mle": MODES["mle"](workload),
        "cal": step(workload),
        "cal, the last layer at every token": step(workload, whole_last_layer),
        "cal, every sample in a row of its own": step(workload, one_sample_a_row),
        "cal, neither": step(workload, lambda alignment: (whole_last_layer(alignment), one_sample_a_row(alignment))),
        "cal, image tokens hidden and not taken out": step(workload, keys_hidden),
    }
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    with gc_frozen():
        for forward in steps.values():
            timed_step(workload, forward)
        for _ in range(rounds):
            seconds = {name: timed_step(workload, steps[name]) for name in order.sample(list(steps), len(steps))}
            for name, taken in seconds.items():
                ratios[name].append(taken / seconds["mle"])
    print(workload.shape.describe())
    print("\n| | time over mle |\n|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}) |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
