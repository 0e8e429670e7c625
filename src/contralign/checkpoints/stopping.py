"""Stopping on Ctrl-C, SIGTERM or SIGUSR1: the step is finished, a checkpoint is written, and the run ends.

SLURM sends SIGTERM before it preempts a job, and what `--signal` names before its time is over.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from contralign.checkpoints.run_errors import HOW_TO_RESUME, Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_ONE_CTRL_C = 2.0
"""Seconds within which a second SIGINT counts as the first: torchrun forwards what the terminal has sent already."""


class StopRequest:
    """A signal that asks the run to stop, and whether the run may stop at once.

    While a Trainer trains, a signal waits for the end of the step; a second Ctrl-C does not wait. At other times the
    run stops at once.

    Attributes:
        signal: the first that came; None before.
        training: True from the first step of a stage until its model is saved.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.training = False
        self._came_at = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block; outside of the main thread, where none arrive, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        owner = os.getpid()

        def hear(number: int, frame: FrameType | None) -> None:
            if os.getpid() == owner:  # processes that load data inherit this
                self._take(signal.Signals(number))

        before = {number: signal.signal(number, hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def raise_if_requested(self, where: str) -> None:
        """Stop if a signal came; called after training.

        Args:
            where: place in the run, for the message.

        Raises:
            Stopped: a signal came.
        """
        self.training = False
        if self.signal is not None:
            raise Stopped(f"stopped by {self.signal.name} {where}; {HOW_TO_RESUME}")

    def _take(self, number: signal.Signals) -> None:
        again = self.signal is not None and number == signal.SIGINT and time.monotonic() - self._came_at > _ONE_CTRL_C
        if self.signal is None:
            self.signal, self._came_at = number, time.monotonic()
        if again or not self.training:
            raise Stopped(f"stopped by {number.name} without waiting for a checkpoint; {HOW_TO_RESUME}")


class IgnoreFirstSigterm:
    """A `worker_init_fn` with which a loader process ignores the first SIGTERM; the second ends it.

    SLURM and torchrun send SIGTERM to all processes, and torch's workers die of it before the step is finished.

    Args:
        begin: another `worker_init_fn` to call.
    """

    def __init__(self, begin: Callable[[int], None] | None) -> None:
        self.begin = begin

    def __call__(self, worker: int) -> None:
        """Set the handler in this worker process."""
        signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
        if self.begin is not None:
            self.begin(worker)


class StopCallback(TrainerCallback):
    """Stops a Trainer after the step in which a signal came to any rank, and has it save a checkpoint."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From here on signals wait for the end of a step."""
        self.request.training = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Agree with the other ranks, then ask the Trainer to save and stop."""
        came = self.request.signal or 0
        if args.world_size > 1:
            numbers = torch.tensor([float(came)], device=PartialState().device)
            total = int(reduce(numbers, reduction="sum").item())  # type: ignore[union-attr]
            if total and not came:
                self.request.signal = signal.SIGTERM
            came = total
        if came:
            control.should_save = True
            control.should_training_stop = True
