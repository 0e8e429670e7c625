"""A worker: takes the next thing that can be done, does it, writes it down, until nothing is left.

Any number of workers, on any machines that share the folder, may run side by side.
"""

import logging
import os
import shutil
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import transformers.utils.logging
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from contralign.ablation.claims import Claims
from contralign.ablation.directory import AblationDirectory, move, write_json
from contralign.ablation.plan import BUILD, PlannedCell, PlannedStep
from contralign.recipe.recipe import Recipe, plain
from contralign.run.environment import describe_environment
from contralign.run.machine import Machine, joined, machine_of
from contralign.run.preflight import cal_configs
from contralign.run.records import RecordReader
from contralign.run.run_directory import RunNotes, Step
from contralign.run.score_files import check_score_files
from contralign.run.steps import Evaluation, StepRunner, StepTime, clock

logger = logging.getLogger(__name__)

BindEvaluations = Callable[[Recipe], Mapping[str, Evaluation]]
KEPT_SETS = 6
"""Built-in sets that a worker keeps: making one takes seconds, and cells of other seeds read the same ones."""
POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker does next: one step of a cell's chain, or its evaluations where `step` is None."""

    planned: PlannedCell
    step: PlannedStep | None

    @property
    def key(self) -> str:
        """Of the step or of the result."""
        return self.planned.key if self.step is None else self.step.key


class Worker:
    """Works on a plan in a directory.

    Args:
        directory: of the ablation, created.
        planned: all cells, in the order in which they should be finished.
        bind: a recipe's evaluations with their settings.
        keep_models: leave every model where it was made.
        claims: default those of the directory.
    """

    def __init__(
        self,
        directory: AblationDirectory,
        planned: Sequence[PlannedCell],
        bind: BindEvaluations,
        *,
        keep_models: bool = False,
        claims: Claims | None = None,
    ) -> None:
        self.directory = directory
        self.planned = first_of_each_key(planned)
        self.bind = bind
        self.keep_models = keep_models
        self.claims = Claims(directory.claims) if claims is None else claims
        self.reader = RecordReader(keep=KEPT_SETS)
        self.environment = describe_environment()

    def run(self, poll_seconds: float = POLL_SECONDS) -> None:
        """Work until every cell is done, or cannot be done; wait where others are at what comes next.

        Raises:
            ValueError: the directory holds results of workers with another number of processes.
        """
        transformers.utils.logging.disable_progress_bar()
        if PartialState().is_main_process:
            self.directory.agree_on_processes(PartialState().num_processes)
        while _from_main(any(self.directory.state(one) == "open" for one in self.planned)):
            if not self.do_one():
                time.sleep(poll_seconds)

    def do_one(self) -> bool:
        """Do the next thing that nobody else is at; False where there is none.

        Under torchrun the main process chooses, and all of the worker's processes do it together.
        """
        if not PartialState().is_main_process:
            return self._follow(_from_main(None))
        for task in self._tasks():
            with self.claims.hold(task.key) as claimed:
                if claimed and not self._is_done(task):
                    folder = self.directory.work / f"{task.key}-{uuid.uuid4().hex[:8]}"
                    _from_main((task.key, folder))
                    self._do(task, folder)
                    return True
        _from_main(None)
        return False

    def _follow(self, chosen: tuple[str, Path] | None) -> bool:
        """A process beside the main one does its part of a training step."""
        if chosen is None:
            return False
        key, folder = chosen
        for planned in self.planned:
            for step in planned.steps:
                if step.key == key and step.stage != BUILD:
                    runner = StepRunner(planned.cell.plan, RunNotes(folder), self.reader)
                    runner.train(self._step(planned, step, folder, folder / "model"))
                    return True
        return True

    def _tasks(self) -> list[Task]:
        """What could be done now, by this worker or another: for every open cell the next thing of its chain."""
        open_cells = [one for one in self.planned if self.directory.state(one) == "open"]
        tasks: dict[str, Task] = {}
        for task in map(self._next, open_cells):
            tasks.setdefault(task.key, task)
        return list(tasks.values())

    def _next(self, planned: PlannedCell) -> Task:
        """The step after the last model of the chain that is there; models that are needed again are made again."""
        after: PlannedStep | None = None
        for step in reversed(planned.steps):
            if self.directory.model(step).is_dir():
                return Task(planned=planned, step=after)
            after = step
        return Task(planned=planned, step=after)

    def _is_done(self, task: Task) -> bool:
        """Whether another worker has done it between looking and claiming."""
        if task.step is not None:
            return self.directory.model(task.step).is_dir()
        return self.directory.state(task.planned) == "done"

    def _do(self, task: Task, folder: Path) -> None:
        folder.mkdir(parents=True)
        logger.info("%s: %s", task.planned.cell.name, task.step.stage if task.step else "evaluate")
        try:
            if task.step is None:
                self._evaluate(task.planned, folder)
            else:
                self._make(task.planned, task.step, folder)
        except Exception:
            self._write_error(task)
            if PartialState().num_processes > 1:  # the others wait for this one: torchrun ends them all
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _make(self, planned: PlannedCell, step: PlannedStep, folder: Path) -> None:
        """One model, in `folder` until it is complete."""
        cell = planned.cell
        runner = StepRunner(cell.plan, RunNotes(folder), self.reader)
        made = folder / "model"
        if step.stage == BUILD:
            begun = clock()
            runner.make_start(made)
            took = StepTime(steps=0, seconds=clock() - begun)
        else:
            check_score_files(cell.plan, cal_configs(cell.plan))
            took = runner.train(self._step(planned, step, folder, made))
        write_json(self.directory.steps / f"{step.key}.json", self._step_record(planned, step, took, runner.notes))
        metrics = folder / "metrics.jsonl"
        if metrics.is_file():
            metrics.replace(self.directory.steps / f"{step.key}.metrics.jsonl")
        move(made, self.directory.model(step))

    def _step(self, planned: PlannedCell, step: PlannedStep, folder: Path, made: Path) -> Step:
        cell = planned.cell
        parent = next((before for before in planned.steps if before.key == step.parent), None)
        return Step(
            arm=cell.arm,
            stage=cell.plan.stages[step.stage],
            start=str(cell.recipe.model.path) if parent is None else str(self.directory.model(parent)),
            end=made,
            checkpoints=folder / "checkpoints",
            cal=cal_configs(cell.plan)[cell.arm] if cell.plan.stages[step.stage].settings.cal else None,
        )

    def _step_record(self, planned: PlannedCell, step: PlannedStep, took: StepTime, notes: RunNotes) -> dict[str, Any]:
        return {
            "key": step.key,
            "parent": step.parent,
            "stage": step.stage,
            "seed": planned.cell.seed,
            "steps": took.steps,
            "seconds": took.seconds,
            "seconds_per_step": took.seconds / took.steps if took.steps else None,
            "swapped": {stage: len(ids) for stage, ids in notes.swapped.items()},
            "bad_records": notes.bad_records,
            **self._where(),
        }

    def _evaluate(self, planned: PlannedCell, folder: Path) -> None:
        cell, last = planned.cell, planned.steps[-1]
        notes = RunNotes(folder)
        runner = StepRunner(cell.plan, notes, self.reader)
        files = folder / "files"
        begun = time.perf_counter()
        results = runner.evaluate(cell.arm, self.directory.model(last), self.bind(cell.recipe), files)
        seconds = time.perf_counter() - begun
        place = self.directory.cells / f"{planned.key}.files"
        if any(path.is_file() for path in files.rglob("*")):
            move(files, place)
        record = {
            "key": planned.key,
            "arm": cell.arm,
            "seed": cell.seed,
            "settings": cell.point,
            "results": results,
            "training": self.directory.step_record(last.key),
            "evaluation_seconds": seconds,
            "steps": [step.key for step in planned.steps],
            "bad_records": notes.bad_records,
            "recipe": plain(cell.recipe),
            "environment": self.environment,
            **self._where(),
            "machine": self._machine_of_chain(planned),
        }
        write_json(self.directory.cells / f"{planned.key}.json", record)
        if not self.keep_models:
            self.directory.clean(self.planned)

    def _where(self) -> dict[str, Any]:
        return {
            "machine": machine_of(self.environment),
            "threads": torch.get_num_threads(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def _machine_of_chain(self, planned: PlannedCell) -> Machine:
        """The record of all machines that made a result: of its steps, and of this process, which evaluates."""
        made = [self.directory.step_record(step.key).get("machine", {}) for step in planned.steps]
        return joined([*made, machine_of(self.environment)])

    def _write_error(self, task: Task) -> None:
        folder = self.directory.cells if task.step is None else self.directory.steps
        stage = "evaluate" if task.step is None else task.step.stage
        text = f"{task.planned.cell.name}: {stage}\n\n{traceback.format_exc()}"
        logger.error("%s", text)
        (folder / f"{task.key}.error").write_text(text, encoding="utf-8")


def first_of_each_key(planned: Sequence[PlannedCell]) -> list[PlannedCell]:
    """The plan with one cell for every result."""
    found: dict[str, PlannedCell] = {}
    for one in planned:
        found.setdefault(one.key, one)
    return list(found.values())


def _from_main(value: Any) -> Any:
    """What the main process has, on every process of the worker."""
    if PartialState().num_processes == 1:
        return value
    return broadcast_object_list([value])[0]
