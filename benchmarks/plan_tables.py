"""The tables of docs/plan.md, as Markdown: `python benchmarks/plan_tables.py` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import plan_validation as validation

from contralign.bench.plan.models import MODELS
from contralign.bench.plan.operations.counting import Counting, Mode
from contralign.bench.plan.operations.counts import flop_ratio
from contralign.bench.plan.predict import predict
from contralign.bench.plan.shapes import VLModel

PREDICTED = {"llava-next-7b": 16, "llava-next-13b": 16, "llava-next-34b": 32, "llava-next-72b": 64}
SAVED_IN = ("llava15-7b", "llava-next-7b", "llava-next-13b", "llava-next-72b", "mgm-2b")
NETWORKS_GB = (200, 100, 50, 25)


def report() -> str:
    """All tables, in the order of the document."""
    sections = (_table_10, _assumptions, _prototype, _public_hours, _predictions, _savings, _networks)
    return "\n\n".join("\n".join(section()) for section in sections)


def _table_10() -> Iterator[str]:
    heads = (
        *("model", "MLE, h: paper", "predicted", "CAL, h: paper", "predicted"),
        *("ratio: paper", "predicted", "share of the peak that fits the baseline"),
    )
    rows = (
        (
            *(c.model, c.baseline, f"{plain:.1f}", c.with_cal, f"{cal:.1f}"),
            *(f"{c.with_cal / c.baseline:.3f}", f"{ratio:.3f}", f"{validation.calibrate(c):.3f}"),
        )
        for c, plain, cal, ratio in validation.table_10()
    )
    return _markdown(heads, rows)


def _assumptions() -> Iterator[str]:
    """How far the predicted ratio of the released style moves when one assumption is changed."""
    names = [column.model for column in validation.TABLE_10]
    plain = validation.COUNTING_2024
    changes: dict[str, tuple[Counting, dict[str, object]]] = {
        "as above": (plain, {}),
        "attention of masked keys computed, not skipped": (replace(plain, hidden_keys="computed"), {}),
        "checkpointing stops early (today's default)": (replace(plain, recompute="early_stop"), {}),
        "no checkpointing": (replace(plain, recompute="none"), {}),
        "tower frozen": (plain, {"train_tower": False}),
        "no tower at all": (plain, {"tiles": 0}),
        "half the text (128, 64 labels)": (plain, {"text": 128, "labels": 64}),
        "twice the text (512, 256 labels)": (plain, {"text": 512, "labels": 256}),
    }
    rows = (
        (what, *(f"{_released_ratio(MODELS[name], counting, change):.3f}" for name in names))
        for what, (counting, change) in changes.items()
    )
    return _markdown(("changed", *names), rows)


def _released_ratio(model: VLModel, counting: Counting, change: dict[str, object]) -> float:
    tokens = {key: value for key, value in change.items() if key in ("text", "labels")}
    rest = {key: value for key, value in change.items() if key not in tokens}
    changed = replace(model, sample=replace(model.sample, **tokens), **rest)  # type: ignore[arg-type]
    return predict(changed, "released", gpus=16, gpu="a100", counting=counting).time_ratio


def _prototype() -> Iterator[str]:
    heads = (
        "image + text (labels), vocabulary",
        *("released: counter", "model", "time"),
        *("cal: counter", "model", "model, all products", "time"),
        *("cal / mle_fused: counter", "model"),
    )
    rows = (
        (
            f"{case.image} + {case.text} ({case.labels}), {case.vocab}" + ", checkpointing" * case.checkpointing,
            *(case.released, f"{ours['released']:.3f}", case.released_time),
            *(case.cal, f"{ours['cal']:.3f}", f"{ours['cal_whole']:.3f}", case.cal_time),
            *(case.cal_over_fused, f"{ours['cal_over_fused']:.3f}"),
        )
        for case, ours in validation.prototype()
    )
    return _markdown(heads, rows)


def _savings() -> Iterator[str]:
    """Operations of `cal` over plain MLE, one saving after the other."""
    steps = {
        "text alone in the second pass, head and loss at label rows": Counting(
            rows=8, last_layer="all", share_prefix=False
        ),
        "+ prefix before the picture once a micro-batch of 8": Counting(rows=8, last_layer="all"),
        "+ last layer's output and MLP at label rows (the default)": Counting(rows=8, last_layer="output"),
        "+ last layer's queries at label rows": Counting(rows=8, last_layer="query"),
        "default, score `logprob`": Counting(rows=8, score="logprob"),
    }
    rows = (
        (what, *(f"{flop_ratio(MODELS[name], 'cal', counting):.3f}" for name in SAVED_IN))
        for what, counting in steps.items()
    )
    cached = "stored Δ (`cal_cached`)", *(f"{flop_ratio(MODELS[name], 'cal_cached'):.3f}" for name in SAVED_IN)
    return _markdown(("operations over `mle`", *SAVED_IN), (*rows, cached))


def _public_hours() -> Iterator[str]:
    rows = ((r.model, r.gpus, r.source, r.hours, f"{predicted:.1f}") for r, predicted in validation.public_hours())
    return _markdown(("model", "A100", "source", "hours stated", "predicted"), rows)


def _predictions() -> Iterator[str]:
    heads = (
        "model",
        "GPUs",
        "mle, h",
        "released",
        "mle_fused",
        "cal",
        "cal_cached",
        "logits GiB: mle",
        "released",
        "cal",
    )
    return _markdown(heads, (_prediction(name, n, gpu) for name, n in PREDICTED.items() for gpu in ("a100", "h100")))


def _prediction(name: str, gpus: int, gpu: str) -> Iterator[object]:
    modes: tuple[Mode, ...] = ("mle", "released", "mle_fused", "cal", "cal_cached")
    plans = {mode: predict(name, mode, gpus=gpus, gpu=gpu) for mode in modes}
    yield from (name, f"{gpus} {gpu}", f"{plans['mle'].hours:.1f}")
    yield from (f"{plans[mode].time_ratio:.3f}" for mode in modes[1:])
    yield from (f"{plans[mode].loss_gib:.1f}" for mode in ("mle", "released", "cal"))


def _networks() -> Iterator[str]:
    rows = (
        (f"{name}, {gpus} {gpu}", *(_over_fused(name, gpus, gpu, speed) for speed in NETWORKS_GB))
        for name, gpus in PREDICTED.items()
        for gpu in ("a100", "h100")
    )
    return _markdown(("cal / mle_fused", *(f"{speed} GB/s a node" for speed in NETWORKS_GB)), rows)


def _over_fused(name: str, gpus: int, gpu: str, node_gb: float) -> str:
    modes: tuple[Mode, Mode] = ("cal", "mle_fused")
    cal, fused = (predict(name, mode, gpus=gpus, gpu=gpu, node_bandwidth=node_gb * 1e9).step_seconds for mode in modes)
    return f"{cal / fused:.3f}"


def _markdown(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    heads = list(heads)
    yield f"| {' | '.join(map(str, heads))} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


if __name__ == "__main__":
    print(report())
