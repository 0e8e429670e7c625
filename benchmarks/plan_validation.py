"""The cost model against what others measured: Table 10 of the paper, LLaVA's hours, a prototype's counted operations.

Only `calibrate` turns a measurement into a setting, and it is fed a run without CAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from contralign.bench.plan.cluster import Efficiency
from contralign.bench.plan.operations.counting import Counting
from contralign.bench.plan.operations.counts import flop_ratio
from contralign.bench.plan.predict import predict
from contralign.bench.plan.shapes import Decoder, Sample, VLModel

# The paper's software (transformers 4.37, FlashAttention-2): whole layers computed again.
COUNTING_2024 = Counting(recompute="all")


@dataclass(frozen=True)
class Table10:
    """One column of Table 10 (section A.4): instruction tuning of LLaVA-NeXT on 16 A100, in hours."""

    model: str
    baseline: float
    with_cal: float


@dataclass(frozen=True)
class PublicHours:
    """Hours of a run as its authors state them."""

    model: str
    gpus: int
    hours: float
    source: str


@dataclass(frozen=True)
class Counted:
    """A prototype's steps over those of plain MLE (spec/hf_internals.md, section 3).

    Operations are those that torch's counter saw on a CPU, times those of one thread there (spread 10 to 20 %).
    """

    image: int
    text: int
    labels: int
    vocab: int
    checkpointing: bool
    released: float
    cal: float
    cal_over_fused: float
    released_time: float
    cal_time: float


TABLE_10 = (Table10("llava-next-7b", 15.6, 19.1), Table10("llava-next-13b", 27.4, 33.7))
PUBLIC_HOURS = (
    PublicHours("llava15-7b", 8, 10, "LLaVA's README, A100 of 40 GB"),
    PublicHours("llava15-13b", 8, 20, "LLaVA's README, A100 of 80 GB"),
)
PROTOTYPE = (
    Counted(576, 128, 64, 32000, False, 1.33, 0.67, 1.057, 1.39, 0.70),
    Counted(576, 128, 64, 32000, True, 1.29, 0.72, 1.046, 1.41, 0.75),
    Counted(576, 128, 64, 2048, False, 1.33, 1.020, 1.059, 1.33, 1.014),
    Counted(576, 128, 64, 2048, True, 1.26, 1.016, 1.047, 1.30, 1.011),
    Counted(2304, 128, 64, 32000, False, 1.33, 0.63, 1.017, 1.44, 0.72),
    Counted(2304, 128, 64, 2048, True, 1.26, 0.982, 1.014, 1.31, 0.92),
    Counted(576, 256, 224, 32000, False, 1.33, 0.74, 1.091, 1.38, 0.82),
)


def calibrate(column: Table10 = TABLE_10[0]) -> float:
    """Share of the peak that makes the predicted baseline last as long as the paper's."""
    low, high = 0.01, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        plan = predict(
            column.model, "mle", gpus=16, gpu="a100", counting=COUNTING_2024, efficiency=Efficiency(products=middle)
        )
        low, high = (middle, high) if plan.hours > column.baseline else (low, middle)
    return high


def table_10() -> Iterator[tuple[Table10, float, float, float]]:
    """Every column with predicted baseline hours, predicted hours of the released style, and their ratio."""
    for column in TABLE_10:
        plain, released = (
            predict(column.model, mode, gpus=16, gpu="a100", counting=COUNTING_2024) for mode in ("mle", "released")
        )
        yield column, plain.hours, released.hours, released.time_ratio


def public_hours() -> Iterator[tuple[PublicHours, float]]:
    """Every stated run with its predicted hours."""
    for run in PUBLIC_HOURS:
        yield run, predict(run.model, "mle", gpus=run.gpus, gpu="a100", counting=COUNTING_2024).hours


def llama_512(image: int, text: int, labels: int, vocab: int) -> VLModel:
    """The small LLaMA that `contralign bench` and the prototype time: no tower, no projector."""
    decoder = Decoder(hidden=512, layers=8, heads=8, kv_heads=8, intermediate=1376, vocab=vocab)
    return VLModel(name="llama-512", decoder=decoder, sample=Sample(image=image, text=text, labels=labels), tiles=0)


def prototype_counting(checkpointing: bool) -> Counting:
    """What the prototype did and torch's counter saw.

    It narrowed no layer and shared no prefix. On a CPU the counter sees neither the fused attention kernel nor
    products accumulated in place (`addmm_`), so of the head's three products, two.
    """
    return Counting(
        recompute="early_stop" if checkpointing else "none",
        attention="none",
        last_layer="all",
        share_prefix=False,
        head_products=2,
    )


def prototype() -> Iterator[tuple[Counted, dict[str, float]]]:
    """Every counted case with our ratios: as the counter should see them, and `cal_whole` with what it misses."""
    for case in PROTOTYPE:
        model = llama_512(case.image, case.text, case.labels, case.vocab)
        counting = prototype_counting(case.checkpointing)
        whole = replace(counting, attention="causal", head_products=3)
        yield (
            case,
            {
                "released": flop_ratio(model, "released", counting),
                "cal": flop_ratio(model, "cal", counting),
                "cal_over_fused": flop_ratio(model, "cal", counting, over="mle_fused"),
                "cal_whole": flop_ratio(model, "cal", whole),
            },
        )
