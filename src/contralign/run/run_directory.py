"""The run directory: what lies where, which steps a run has, and whether an older run may be touched.

    recipe.yaml  environment.json  metrics.jsonl  results.json  report.html  bad_records.json  swapped.json
    start/        the model that the arms part from
    ARM/          a trained model with its processor        evaluations/ARM/EVALUATION/   files of an evaluation
    stages/       models between stages, removed at the end        checkpoints/  of the Trainer

Files and folders are renamed into place when they are complete, so what is there is done, whenever the run was killed:
resuming needs no other book-keeping. A run with results.json is finished. While an older run is being removed the file
.overwritten says that what is left of it is nothing.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from contralign.atomic_write import is_partial, remove
from contralign.checkpoints.saving import write_text
from contralign.data.records.mixture import LoadReport
from contralign.recipe.packages import packages_behind
from contralign.recipe.plan import RunPlan, StagePlan
from contralign.recipe.recipe import plain
from contralign.recipe.recipe_file import dump_recipe, load_recipe
from contralign.recipe.schema import RecipeError
from contralign.run.callbacks import MetricsFile
from contralign.training.config import CalConfig

SHARED = "shared"
OVERWRITTEN = ".overwritten"
PACKAGES = "packages.json"
"""Packages whose names the recipe has, with versions: a run does not go on with others."""
MAY_CHANGE = r"output_dir|stages\..+\.on_nan|trainer\.(save_|dataloader_(?!drop_last)|logging_steps).*|report"
"""Settings that change nothing about what is learnt: a run may go on with others."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of one arm: from a model directory to a model directory.

    Attributes:
        arm: "shared" before the arms part.
        stage: what the plan says of it.
        start: model directory or name on the hub.
        end: model directory; there once the step is done.
        checkpoints: folder of the Trainer's checkpoints.
        cal: settings of the arm; None trains plainly.
    """

    arm: str
    stage: StagePlan
    start: str
    end: Path
    checkpoints: Path
    cal: CalConfig | None


class RunNotes:
    """What a run writes down beside its models: metrics.jsonl, bad_records.json, swapped.json.

    Args:
        folder: where they lie; what an earlier part of the run wrote there is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = MetricsFile(folder / "metrics.jsonl")
        self.bad_records = _read_json(folder / "bad_records.json")
        self.swapped = _read_json(folder / "swapped.json")

    def swapped_in(self, stage: str, ids: list[str]) -> None:
        """Name the records of a stage that were given another record's picture."""
        self.swapped[stage] = ids
        _write_json(self.folder / "swapped.json", self.swapped)

    def left_out_of(self, origin: str, report: LoadReport) -> None:
        """Name the records that a stage, or data.eval, left out.

        Args:
            origin: name of the stage, or "data.eval".
            report: what was found when records were read and when batches were made.
        """
        self.bad_records[origin] = {
            "total": report.total,
            "counts": report.counts,
            "records": [
                {"record": fault.record, "reason": fault.reason, "message": fault.message} for fault in report.bad
            ],
        }
        _write_json(self.folder / "bad_records.json", self.bad_records)


class RunDirectory:
    """Paths of one run, and the rules about older ones.

    Args:
        plan: of the run; its `output_dir` is the place.
    """

    def __init__(self, plan: RunPlan) -> None:
        self.plan, self.recipe = plan, plan.recipe
        self.path = plan.output_dir
        self.metrics = MetricsFile(self.path / "metrics.jsonl")

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def is_finished(self) -> bool:
        """True where the run in the directory has its results."""
        return (self.path / "results.json").is_file()

    def check(self, resume: bool = False, overwrite: bool = False) -> None:
        """Refuse to touch what another run left, unless told to.

        Args:
            resume: go on with an unfinished run; where there is none yet, begin it.
            overwrite: replace whatever run is there.

        Raises:
            RecipeError: the directory is taken; the message says by what, and what to do.
        """
        if resume and overwrite:
            raise RecipeError("--resume goes on with a run and --overwrite replaces it: give one of them")
        if self.is_free:
            return
        if not (self.path / "recipe.yaml").is_file():
            raise RecipeError(f"{self.path} exists and is no run directory: set output_dir= to another folder")
        if overwrite:
            return
        changed = self._differences()
        if resume and changed:
            raise RecipeError(
                f"--resume: the run in {self.path} had another recipe ({'; '.join(changed)}): resume with that one, or "
                "set output_dir= to another folder"
            )
        if not resume:
            state = "finished" if self.is_finished else "unfinished"
            other = f"another recipe ({'; '.join(changed)})" if changed else "this recipe"
            raise RecipeError(
                f"{self.path} holds the {state} run of {other}: set output_dir= to another folder, or replace it with "
                f"--overwrite{'' if changed or self.is_finished else ', or go on with it: the same and --resume'}"
            )

    @property
    def is_free(self) -> bool:
        """True where no run is: no folder, an empty one, or what an interrupted start or removal has left."""
        if not self.path.exists():
            return True
        if not self.path.is_dir():
            return False
        return (self.path / OVERWRITTEN).exists() or all(is_partial(path) for path in self.path.iterdir())

    def create(self, resume: bool = False) -> None:
        """Make the folder and write recipe.yaml; without `resume` an older run in it is removed.

        Raises:
            CannotWrite: the disk refuses.
        """
        if self.is_free or not resume:
            self._empty()
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.path.iterdir():
            if is_partial(path):
                remove(path)
        write_text(self.path / "recipe.yaml", dump_recipe(self.recipe))
        packages = packages_behind(self.plan)
        if packages:
            _write_json(self.path / PACKAGES, packages)

    def _empty(self) -> None:
        """Remove what is there, so that an interruption leaves nothing that looks like a run."""
        if not self.path.exists():
            return
        (self.path / OVERWRITTEN).touch()
        for path in list(self.path.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != OVERWRITTEN:
                path.unlink()
        (self.path / OVERWRITTEN).unlink()

    def steps(self, arms: Mapping[str, CalConfig | None], origin: str) -> list[Step]:
        """Every stage of every arm in order: the shared ones, then those of each arm from the same start.

        Args:
            arms: CAL's settings by arm.
            origin: the model that the first stage starts from.
        """
        stages, fork = list(self.plan.stages.values()), self.plan.fork
        steps = self._chain(SHARED, stages[:fork], origin, self.path / "start", None)
        start = str(self.path / "start") if fork else origin
        for arm, cal in arms.items():
            steps += self._chain(arm, stages[fork:], start, self.path / arm, cal)
        return steps

    def write_json(self, name: str, content: Any) -> None:
        """Write a file of the run; under torchrun the main process does."""
        _write_json(self.path / name, content)

    def results_of(self, arm: str) -> dict[str, Any] | None:
        """What the evaluations of an arm found; None where they have not come to their end."""
        path = self._results_file(arm)
        return _read_json(path) if path.is_file() else None

    def keep_results(self, arm: str, results: Mapping[str, Any]) -> None:
        """Write down what the evaluations of an arm found, so that they are not made again."""
        self._results_file(arm).parent.mkdir(parents=True, exist_ok=True)
        _write_json(self._results_file(arm), results)

    def _results_file(self, arm: str) -> Path:
        return self.path / "checkpoints" / f"{arm}-results.json"

    def clean(self) -> None:
        """Remove what only an unfinished run needs."""
        for name in ("stages", "checkpoints"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _chain(self, arm: str, stages: list[StagePlan], start: str, end: Path, cal: CalConfig | None) -> list[Step]:
        steps = []
        for stage in stages:
            name = f"{arm}-{stage.name}"
            step = Step(
                arm=arm,
                stage=stage,
                start=start,
                end=end if stage is stages[-1] else self.path / "stages" / name,
                checkpoints=self.path / "checkpoints" / name,
                cal=cal if stage.settings.cal else None,
            )
            steps.append(step)
            start = str(step.end)
        return steps

    def _differences(self) -> list[str]:
        """Dotted settings in which the run that is there differs, at most three."""
        there = load_recipe(self.path / "recipe.yaml")
        unequal = _unequal(plain(there), plain(self.recipe), "")
        unequal += _unequal(_read_json(self.path / PACKAGES), packages_behind(self.plan), "the package of")
        found = [words for words in unequal if re.fullmatch(MAY_CHANGE, words.partition(" was ")[0]) is None]
        return found[:3] + (["…"] if len(found) > 3 else [])


def _write_json(path: Path, content: Any) -> None:
    if PartialState().is_main_process:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _unequal(there: Any, here: Any, path: str) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        names = list(dict.fromkeys([*there, *here]))
        inner = [(name, f"{path}.{name}" if path else name) for name in names]
        return [found for name, place in inner for found in _unequal(there.get(name), here.get(name), place)]
    return [] if there == here else [f"{path} was {there}, is {here}"]
