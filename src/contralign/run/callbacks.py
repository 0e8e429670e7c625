"""What a stage says while it runs: one JSON line a log event, and a progress bar."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerState

from contralign.checkpoints.saving import write_failure_message, write_text

logger = logging.getLogger(__name__)


class MetricsFile:
    """metrics.jsonl of a run: one object a log event, with its arm, stage and step.

    A disk that refuses a line does not end the training: the line waits for the next one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def write(self, arm: str, stage: str, step: int, logs: Mapping[str, Any]) -> None:
        """Append one event."""
        self._waiting.append(json.dumps({"arm": arm, "stage": stage, "step": step, **logs}) + "\n")
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab", buffering=0) as lines:
                _write_all(lines, "".join(self._waiting).encode())
        except OSError as error:
            if len(self._waiting) == 1:
                logger.warning(
                    "%s; lines of the log wait in memory", write_failure_message(self.path, error, at_least=size)
                )
            if self.path.exists():
                os.truncate(self.path, size)
        else:
            self._waiting.clear()

    def read(self) -> list[dict[str, Any]]:
        """All events, oldest first; none where nothing was logged yet.

        A last line that a killed process left half written is passed over.

        Raises:
            ValueError: another line is no event.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        events = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                events.append(json.loads(line))
            except ValueError:
                raise ValueError(f"{self.path}, line {number} is no JSON: {line[:60]!r}; take it out") from None
        return events

    def forget(self, arm: str, stage: str, after_step: int) -> None:
        """Take away the events of one stage after a step: a resumed stage writes them again. A half line goes, too."""
        kept = [
            event
            for event in self.read()
            if (event["arm"], event["stage"]) != (arm, stage) or event["step"] <= after_step
        ]
        write_text(self.path, "".join(json.dumps(event) + "\n" for event in kept))


def _write_all(file: Any, content: bytes) -> None:
    """Every byte: a full disk may take some of them first."""
    while content:
        content = content[file.write(content) :]


class LogToFile(TrainerCallback):
    """Writes every log event of the Trainer."""

    def __init__(self, metrics: MetricsFile, arm: str, stage: str) -> None:
        self.metrics, self.arm, self.stage = metrics, arm, stage

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Append the event; `total_flos` is left out."""
        if state.is_world_process_zero and logs:
            kept = {name: value for name, value in logs.items() if name != "total_flos"}
            self.metrics.write(self.arm, self.stage, state.global_step, kept)


class StageBar(TrainerCallback):
    """One progress bar a stage, with the latest loss on it."""

    def __init__(self, arm: str, stage: str) -> None:
        self.label = f"{stage} ({arm})"
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Open the bar; a resumed stage starts where it stopped."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, dynamic_ncols=True)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
