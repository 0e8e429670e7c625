"""A guard against NaN and infinity: a step with such a loss or gradient stops the run or is skipped, by `on_nan`.

It is found before the optimizer step, so the weights stay those of the step before, and its records are named. Under
fp16 only the loss is checked: infinite gradients are normal there, since a GradScaler finds its scale by them.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer

from contralign.checkpoints.loader_errors import raising
from contralign.checkpoints.run_errors import NotFinite
from contralign.core.sharding import any_rank
from contralign.data.streams.streaming import StreamedSamples

logger = logging.getLogger(__name__)

OnNan = Literal["stop", "skip"]
MAX_CONSECUTIVE_SKIPS = 5
"""Steps in a row that `on_nan="skip"` skips; one more ends the run."""
RECORD_IDS = "contralign_records"
"""Batch key of the record ids; removed before the model sees the batch."""
_MOST_NAMED = 16


class RecordIdCollator:
    """A collator that adds the ids of its records to each batch.

    Args:
        collate: makes the batches. A sample's id is its attribute or key `id`, None without one.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Any) -> Any:
        """The batch; if it is a plain dictionary, with the ids under `RECORD_IDS`."""
        batch = self.collate(samples)
        return {**batch, RECORD_IDS: [_id_of(sample) for sample in samples]} if type(batch) is dict else batch


class NanGuard(Trainer):
    """Overrides of a Trainer that check every step before the optimizer takes it.

    A step without labels (all its records were skipped) has a loss of 0; transformers would divide by their number.

    Attributes:
        on_nan: "stop" ends the run at a bad step; "skip" skips it, and ends the run after five in a row.
        skipped_steps: number of steps skipped so far.

    Raises:
        ValueError: another `on_nan`, or "skip" under DeepSpeed.
    """

    skipped_steps = 0
    _skipped_in_a_row = 0

    def __init__(self, *args: Any, on_nan: OnNan = "stop", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_nan: OnNan = on_nan
        self._losses: list[Tensor] = []
        self._records: list[list[str | None]] = []
        if on_nan not in ("stop", "skip"):
            raise ValueError(f"on_nan={on_nan!r}: wanted 'stop' or 'skip'")
        if on_nan == "skip" and self.is_deepspeed_enabled:
            raise ValueError(
                "on_nan='skip' under DeepSpeed: its engine has made the step before anybody can look at it"
            )

    def get_train_dataloader(self) -> DataLoader:
        """The usual loader, its batches with the ids of their records."""
        records: Any = self.train_dataset
        of_their_own = isinstance(records, IterableDataset) and not isinstance(records, StreamedSamples)
        if of_their_own and self.args.world_size > 1:
            return super().get_train_dataloader()  # accelerate may send batches between processes, tensors alone
        collate = self.data_collator
        self.data_collator = RecordIdCollator(collate)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collate

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The micro-batches of a step; the ids of their records are kept here and removed from them."""
        batches, num_items = super().get_batch_samples(raising(epoch_iterator), num_batches, device)
        self._losses = []
        self._records = [batch.pop(RECORD_IDS, []) if isinstance(batch, dict) else [] for batch in batches]
        return batches, num_items.clamp(min=1) if isinstance(num_items, Tensor) else num_items

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The usual micro-batch; its loss is remembered."""
        loss = super().training_step(*args, **kwargs)
        self._losses.append(loss.detach())
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm, which the Trainer asks for right before the optimizer step; bad steps are dealt with here."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        broken = [number for number, loss in enumerate(self._losses) if not bool(torch.isfinite(loss).all())]
        gradient_breaks = norm is not None and not math.isfinite(float(norm)) and not self._scales_itself()
        if any_rank(bool(broken) or gradient_breaks, self.args.device):
            self._stop_or_skip(model, broken, norm)
        else:
            self._skipped_in_a_row = 0
        return norm

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The usual log, with `skipped_steps` if there are any."""
        if "loss" in logs and self.skipped_steps:
            logs["skipped_steps"] = self.skipped_steps
        super().log(logs, *args, **kwargs)

    def _stop_or_skip(self, model: nn.Module, broken: list[int], norm: Any) -> None:
        what = self._what_broke(model, broken, norm)
        if self.on_nan == "stop":
            raise NotFinite(f"{what}\n{self._what_to_do(broken)}")
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MAX_CONSECUTIVE_SKIPS:
            raise NotFinite(
                f"{what}\nThat is the {self._skipped_in_a_row}th such step in a row; {self._what_to_do(broken)}"
            )
        for parameter in model.parameters():
            parameter.grad = None
        logger.warning("%s. The step is left out (%d so far)", what, self.skipped_steps)

    def _what_broke(self, model: nn.Module, broken: list[int], norm: Any) -> str:
        step = f"step {self.state.global_step + 1}"
        looked_at = [
            self._records[number] for number in broken or range(len(self._losses)) if number < len(self._records)
        ]
        named = _named([record for records in looked_at for record in records])
        if broken:
            values = ", ".join(f"{float(self._losses[number])}" for number in broken)
            return f"{step}: the loss is {values}; {named}"
        if norm is not None and not math.isfinite(float(norm)):
            size = f"{float(norm)}{_places(model)}"
            return f"{step}: the norm of the gradient is {size}, with a finite loss; {named}"
        return f"{step}: the loss of another process is not finite; here, {named}"

    def _what_to_do(self, broken: list[int]) -> str:
        look = (
            "look at those records (a picture that is empty, a text without an answer), then at the learning rate"
            if broken
            else "lower the learning rate or warm it up for longer, set max_grad_norm, and prefer bf16 to fp16"
        )
        return (
            f"The weights are those of the step before. What to do: {look}; on_nan=skip of the stage leaves such steps "
            f"out, and may be changed when a run goes on. {self.last_checkpoint_words()}"  # type: ignore[attr-defined]
        )

    def _scales_itself(self) -> bool:
        scaler = getattr(self.accelerator, "scaler", None)
        return scaler is not None and scaler.is_enabled()


def _places(model: nn.Module) -> str:
    """Whose gradient is not finite; unknown where clipping, which comes before, has spread it over all."""
    learnt = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    broken = [name for name, gradient in learnt if _breaks(gradient)]
    return f", that of {broken[0]} and {len(broken) - 1} more" if 0 < len(broken) < len(learnt) else ""


def _breaks(gradient: Tensor) -> bool:
    held: Any = gradient.to_local() if hasattr(gradient, "to_local") else gradient  # type: ignore[attr-defined]
    return not bool(torch.isfinite(held).all())


def _named(records: list[str | None]) -> str:
    names = [record for record in records if record is not None]
    if not names:
        return "its records have no id"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"its records: {', '.join(names[:_MOST_NAMED])}{more}"


def _id_of(sample: Any) -> str | None:
    found = sample.get("id") if isinstance(sample, Mapping) else getattr(sample, "id", None)
    return None if found is None else str(found)
