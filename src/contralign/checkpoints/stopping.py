"""Asked to stop (Ctrl-C, SIGTERM, SIGUSR1): the step is finished, a checkpoint is written, and the run leaves.

SLURM sends SIGTERM before it preempts a job, and whatever `--signal` says before its time is over.
"""

from __future__ import annotations

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
"""Seconds within which a second SIGINT is the first one again: torchrun passes on what the terminal sent already."""


class StopRequest:
    """What the outside has asked for, and whether the run can leave at once.

    While a Trainer trains, a signal waits for the end of the step; a second Ctrl-C does not. At other times, where
    nothing would be gained by waiting, the run leaves at once.

    Attributes:
        signal: that came; None while there was none.
        training: True from the first step of a stage until its model is saved.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.training = False
        self._came_at = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals inside the block; outside of the main thread, where none arrive, do nothing."""
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
        """Leave, if a signal came.

        Args:
            where: the run has got to.

        Raises:
            Stopped: it did.
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
    """What a process that loads data does when it begins: it outlives a SIGTERM, which SLURM and torchrun send to all.

    torch has it die of the first one, and the step that is to be finished with it. Here the second one ends it.

    Args:
        begin: what is done beside, with the number of the worker.
    """

    def __init__(self, begin: Callable[[int], None] | None) -> None:
        self.begin = begin

    def __call__(self, worker: int) -> None:
        """Begin."""
        signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
        if self.begin is not None:
            self.begin(worker)


class StopCallback(TrainerCallback):
    """Ends a Trainer's training after the step in which a signal came to any rank, with a checkpoint."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From here on signals wait for the end of a step."""
        self.request.training = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Agree with the other ranks, and ask for a checkpoint and the end."""
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
