"""One stretch of training: an entry of the section `stages` of a recipe.

A setting that would have no effect is an error, so that what a recipe says is what a run does.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge

from contralign.recipe.model_settings import Part
from contralign.recipe.schema import Positive, Rate

Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup"]

ALONE = {"text": "language_model", "tower": "vision_tower"}
"""Kinds of stages in which one part of the tiny LLaVA learns by itself."""
ALONE_SETTINGS = ("kind", "steps", "epochs", "learning_rate", "batch_size", "warmup", "data")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with one optimizer.

    Attributes:
        kind: "align" trains on pictures with text. Two kinds give the tiny LLaVA what real parts know: "text" trains
            its language model on the chats alone, "tower" its vision tower to tell which words go with a picture.
        train: the parts that learn; the others are frozen.
        steps: optimizer steps; give this or `epochs`.
        epochs: passes over the records.
        learning_rate: peak learning rate.
        vision_learning_rate: of the vision tower, where it is another; same schedule.
        projector_learning_rate: of the projector, where it is another; same schedule.
        batch_size: records a device and a micro-batch.
        grad_accumulation: micro-batches a step.
        global_batch: records a step, on all devices together; accumulation then follows from their number.
        warmup: below 1 a share of the steps, from 1 on a number of steps.
        schedule: of the learning rate.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: the gradient's norm is clipped to it; 0 clips nothing, as the released recipes do.
        on_nan: what a step whose loss or gradient is NaN or infinite does: "stop" ends the run and names its records,
            "skip" leaves the step out, and ends the run after five in a row. It may change with --resume.
        cal: train with CAL; the first such stage is where the arms part.
        data: settings of `data` that differ in this stage.
    """

    kind: Literal["align", "text", "tower"] = "align"
    train: tuple[Part, ...] = ()
    steps: Positive | None = None
    epochs: Rate | None = None
    learning_rate: Rate
    vision_learning_rate: Rate | None = None
    projector_learning_rate: Rate | None = None
    batch_size: Positive
    grad_accumulation: Positive = 1
    global_batch: int | None = None
    warmup: Annotated[float, Ge(0)] = 0.0
    schedule: Schedule = "cosine"
    weight_decay: Annotated[float, Ge(0)] = 0.0
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    on_nan: Literal["stop", "skip"] = "stop"
    cal: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"steps={self.steps} and epochs={self.epochs}: give one of them")
        if self.global_batch is not None:
            self._check_global_batch(self.global_batch)
        if self.warmup and self.schedule == "constant":
            raise ValueError(f"warmup={self.warmup} has no effect with schedule='constant': set constant_with_warmup")
        if self.kind == "align":
            self._check_align()
        else:
            self._check_alone()

    def _check_alone(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ALONE_SETTINGS and value != item.default:
                raise ValueError(
                    f"{item.name}={value} has no effect with kind={self.kind!r}, which trains the "
                    f"{ALONE[self.kind]} by itself: leave it out"
                )

    def _check_align(self) -> None:
        if not self.train:
            raise ValueError("train is empty: name the parts that learn, such as [projector, language_model]")
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train={list(self.train)} names a part twice")
        if self.vision_learning_rate is not None and "vision_tower" not in self.train:
            raise ValueError("vision_learning_rate has no effect: vision_tower is not in train")
        if self.projector_learning_rate is not None and "projector" not in self.train:
            raise ValueError("projector_learning_rate has no effect: projector is not in train")

    def _check_global_batch(self, global_batch: int) -> None:
        if self.grad_accumulation != 1:
            raise ValueError(
                f"grad_accumulation={self.grad_accumulation} has no effect with global_batch={global_batch}, from "
                "which it follows: leave one of them out"
            )
        if global_batch < 1 or global_batch % self.batch_size:
            raise ValueError(f"global_batch={global_batch}: wanted a multiple of batch_size ({self.batch_size})")

    def accumulation(self, world: int) -> int:
        """Micro-batches a step on `world` devices.

        Raises:
            ValueError: they cannot share `global_batch`; the message says what can.
        """
        if self.global_batch is None:
            return self.grad_accumulation
        micro_batches = self.global_batch // self.batch_size
        if micro_batches % world == 0:
            return micro_batches // world
        shares = self.global_batch // world if self.global_batch % world == 0 else 0
        batches = [size for size in range(1, shares + 1) if shares % size == 0]
        devices = [number for number in range(1, micro_batches + 1) if micro_batches % number == 0]
        fitting = f", or batch_size {_listed(batches)} on {world}" if batches else ""
        raise ValueError(
            f"global_batch={self.global_batch} in batches of {self.batch_size} cannot be shared by {world} devices: "
            f"take {_listed(devices)} of them{fitting}"
        )

    @property
    def part_rates(self) -> dict[Part, float]:
        """Peak learning rates of the parts that have their own."""
        rates: dict[Part, float | None] = {
            "vision_tower": self.vision_learning_rate,
            "projector": self.projector_learning_rate,
        }
        return {part: rate for part, rate in rates.items() if rate is not None}


def _listed(numbers: list[int]) -> str:
    """1, 2 or 4."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
