"""The folder of an ablation: what lies where, what is done, and what may go.

    ablation.yaml    as it was last run          results.parquet  comparisons.parquet  tables.md  plots/
    cells/KEY.json   a result: numbers, settings, times, machine            cells/KEY.files/  files of its evaluations
    steps/KEY/       a model that an unfinished cell needs                  steps/KEY.json    what making it took
    cells/KEY.error  steps/KEY.error   the traceback of what failed
    claims/  work/   of workers that run now     logs/       one file a worker
    processes        of a worker: 1, or what torchrun was told

What bears its name is whole: everything is made under work/ and renamed. There is no other book-keeping, so a run that
was killed goes on when it is started again, and an ablation that has grown by a seed, an arm or a value finds what it
shares with the smaller one. Results, models and claims may lie in another folder, a store, which several ablations
share: what is equal in them is done once, and no model is removed.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from contralign.ablation.ablation_file import dump_ablation
from contralign.ablation.plan import PlannedCell, PlannedStep
from contralign.ablation.settings import Ablation

State = Literal["done", "failed", "open"]


class AblationDirectory:
    """Paths and states of one ablation.

    Args:
        path: its folder; made by `create`.
        store: folder of results, models and what workers do; None is the same one.
    """

    def __init__(self, path: Path, store: Path | None = None) -> None:
        self.path = path
        self.store = store or path
        self.cells = self.store / "cells"
        self.steps = self.store / "steps"
        self.claims = self.store / "claims"
        self.work = self.store / "work"
        self.logs = path / "logs"
        self.plots = path / "plots"

    def create(self, ablation: Ablation) -> None:
        """Make the folder and write ablation.yaml.

        Raises:
            ValueError: the folder holds something else.
        """
        if self.store.exists() and any(self.store.iterdir()) and not self.cells.is_dir():
            option = "--output" if self.store == self.path else "--store"
            raise ValueError(f"{self.store} exists and is no folder of an ablation: give another with {option}")
        for folder in (self.path, self.cells, self.steps, self.claims, self.work, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        partial = self.path / f".ablation-{os.getpid()}.partial"
        partial.write_text(dump_ablation(ablation), encoding="utf-8")
        partial.replace(self.path / "ablation.yaml")

    def agree_on_processes(self, count: int) -> None:
        """See that all workers have as many processes: a batch of two is another batch.

        Raises:
            ValueError: earlier workers had another number.
        """
        place = self.store / "processes"
        try:
            with place.open("x", encoding="utf-8") as file:
                file.write(str(count))
        except FileExistsError:
            there = place.read_text(encoding="utf-8")
            if there and int(there) != count:
                raise ValueError(
                    f"{self.store} holds results of workers with {there} processes, and this one has {count}: batches "
                    "would differ; give another folder"
                ) from None

    def model(self, step: PlannedStep) -> Path:
        """Where the model of a step is, or will be."""
        return self.steps / step.key

    def state(self, planned: PlannedCell) -> State:
        """Whether a cell has its result, cannot get it, or waits."""
        if (self.cells / f"{planned.key}.json").is_file():
            return "done"
        return "failed" if self.error(planned) is not None else "open"

    def error(self, planned: PlannedCell) -> Path | None:
        """The traceback of what keeps a cell from its result: of itself, or of a step that it needs."""
        places = [self.cells / f"{planned.key}.error", *(self.steps / f"{step.key}.error" for step in planned.steps)]
        return next((place for place in places if place.is_file()), None)

    def forget_errors(self, planned: Iterable[PlannedCell]) -> None:
        """Let everything that failed be tried again."""
        for one in planned:
            while (place := self.error(one)) is not None:
                place.unlink(missing_ok=True)

    def record(self, key: str) -> dict[str, Any]:
        """What cells/KEY.json holds."""
        return json.loads((self.cells / f"{key}.json").read_text(encoding="utf-8"))

    def step_record(self, key: str) -> dict[str, Any]:
        """What steps/KEY.json holds."""
        return json.loads((self.steps / f"{key}.json").read_text(encoding="utf-8"))

    def clean(self, planned: Sequence[PlannedCell]) -> None:
        """Remove the models that no unfinished cell needs."""
        needed = {step.key for one in planned if self.state(one) != "done" for step in one.steps}
        for step in {step.key: step for one in planned for step in one.steps}.values():
            if step.key not in needed:
                shutil.rmtree(self.model(step), ignore_errors=True)

    def clean_work(self) -> None:
        """Remove what workers that are gone have left half made."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is whole as soon as it has its name."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def move(made: Path, place: Path) -> None:
    """Give a folder its name; where it is taken, another worker has made the same, and this one goes."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(made)
