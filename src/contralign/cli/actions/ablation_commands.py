"""The modes of `contralign ablate`, one method each; training, evaluation and ablation meet here."""

import gc
import logging
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
import typer
from accelerate import PartialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.cells import expand
from contralign.ablation.check import CHECKED, Checked, choose_cell, run_again
from contralign.ablation.directory import AblationDirectory
from contralign.ablation.launch import run_workers, states
from contralign.ablation.plan import count_work, plan
from contralign.ablation.slurm import sbatch_script
from contralign.ablation.summary.report import write_report
from contralign.ablation.summary.results import Results, collect, read_results
from contralign.ablation.summary.tables import for_terminal, tables
from contralign.ablation.worker import Worker
from contralign.cli.actions.evaluations import bind_evaluations
from contralign.cli.ranks import leave_process_group
from contralign.recipe.recipe_file import find_recipe
from contralign.run.preflight import cal_configs
from contralign.run.score_files import check_score_files

LONGEST_EVALUATION = timedelta(hours=24)
"""How long other ranks wait while the main one evaluates."""


class AblationCommands:
    """One ablation with its plan and its folder.

    Args:
        name: ablation file, or one that comes with contralign.
        overrides: "key=value" changes.
        output: its folder; None is runs/ablate/NAME.
        store: folder of results and models that it shares with others; None is its own.

    Raises:
        RecipeError: anything that cannot be followed.
    """

    def __init__(self, name: str, overrides: Sequence[str], output: Path | None, store: Path | None = None) -> None:
        path = find_recipe(name)
        self.words = [name, *overrides]
        self.ablation = load_ablation(path, overrides)
        self.planned = plan(expand(self.ablation, path.parent))
        for one in self.planned:
            bind_evaluations(one.cell.recipe)
        self.output = output
        self.directory = AblationDirectory(output or Path("runs") / "ablate" / self.ablation.name, store)
        self.console = Console()

    def run(self, workers: int | None, *, keep_models: bool) -> bool:
        """Run all cells that are not done in local workers, then write tables and plots. True if every cell is done."""
        for one in self.planned:
            check_score_files(one.cell.plan, cal_configs(one.cell.plan))
        self._say(str(count_work(self.planned)))
        self.directory.create(self.ablation)
        words = self._worker_words(self.directory.path, self.directory.store, keep_models)
        columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        failures = TextColumn("[red]{task.fields[failed]}")
        with Progress(*columns, failures, console=Console(stderr=True)) as progress:
            bar = progress.add_task("", total=len(self.planned), failed="")

            def update(counts: Counter[str]) -> None:
                failed = f"{counts['failed']} failed" if counts["failed"] else ""
                progress.update(bar, completed=counts["done"], failed=failed)

            run_workers(self.directory, self.planned, words, workers or os.cpu_count() or 1, update)
        if states(self.directory, self.planned)["done"]:
            self.show(None)
        return self._name_failures()

    def run_worker(self, *, keep_models: bool, retry_failed: bool) -> None:
        """Be one worker until nothing is left to do."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
        torch.set_num_threads(1)
        # Under torchrun: as the Trainer will set it up, but ranks wait for the main one longer than it evaluates.
        PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_EVALUATION)
        if PartialState().is_main_process:
            self.directory.create(self.ablation)
            if retry_failed:
                self.directory.forget_errors(self.planned)
        PartialState().wait_for_everyone()
        kept = keep_models or self.directory.store != self.directory.path
        worker = Worker(self.directory, self.planned, bind_evaluations, keep_models=kept)
        gc.freeze()  # a collection after every step need not look through all that was imported: 0.5 s each
        worker.run()
        leave_process_group()

    def list_cells(self) -> None:
        """Print every cell with its state and key."""
        lines = Table("state", "cell", "key", box=SIMPLE_HEAD)
        for one in self.planned:
            lines.add_row(self.directory.state(one), escape(one.cell.name), one.key)
        self.console.print(lines)
        self._say(str(count_work(self.planned)))

    def show(self, file: Path | None) -> None:
        """Print and write tables and plots of the results; those of another file are written only with an output."""
        results = self._results(file)
        if not results.measured:
            raise ValueError(
                f"{self.directory.path} has no finished cell: run `contralign ablate {self.words[0]}` first"
            )
        for table in tables(results):
            if not table.folded:
                self.console.print(for_terminal(table))
        if file is None or self.output is not None:
            missing = 0 if file else len(self.planned) - states(self.directory, self.planned)["done"]
            written = write_report(
                self.directory.path, results, shlex.join(["contralign", "ablate", *self.words]), missing
            )
            for path in written:
                self._say(str(path))

    def check(self, file: Path | None, cell: str | None, seed: int) -> bool:
        """Run one recorded cell again; True where its numbers agree with the recorded ones."""
        results = self._results(file)
        planned = choose_cell(self.planned, results, cell, seed)
        folder = self.directory.path / CHECKED / planned.key
        shutil.rmtree(folder, ignore_errors=True)
        self._say(f"{planned.cell.name}: again, from nothing, in {folder}")
        checked = run_again(self.ablation, planned, results, folder, bind_evaluations)
        self._say(checked.comparison)
        self.console.print(_both(checked.numbers))
        wrong = [one.metric.path for one in checked.numbers if not one.agrees and one.can_be_judged]
        unjudged = [one.metric.path for one in checked.numbers if not one.can_be_judged]
        if wrong:
            typer.secho(f"differs from what is recorded: {', '.join(wrong)}", fg=typer.colors.RED, err=True)
        if unjudged:
            words = f"cannot be judged, fewer than 3 seeds are recorded: {', '.join(unjudged)}; add seeds"
            typer.secho(words, fg=typer.colors.RED, err=True)
        return not wrong and not unjudged

    def print_slurm(self, workers: int | None, processes: int, *, keep_models: bool) -> None:
        """Print an sbatch script, and make the folder of its logs, since SLURM does not."""
        self.directory.create(self.ablation)
        words = self._worker_words(self.directory.path.resolve(), self.directory.store.resolve(), keep_models)
        most = len({one.key for one in self.planned})
        script = sbatch_script(
            self.ablation.name, words, self.directory.logs, workers=workers or min(most, 16), processes=processes
        )
        typer.echo(script, nl=False)

    def _worker_words(self, output: Path, store: Path, keep_models: bool) -> list[str]:
        """The command line of a worker after `contralign`."""
        words = ["ablate", *self.words, "--output", str(output), "--worker"]
        words += ["--store", str(store)] if store != output else []
        return [*words, "--keep-models"] if keep_models else words

    def _results(self, file: Path | None) -> Results:
        return collect(self.ablation, self.planned, self.directory) if file is None else read_results(file)

    def _name_failures(self) -> bool:
        """Print what failed and where its traceback is; True if all cells are done."""
        errors: dict[Path, list[str]] = {}
        for one in self.planned:
            place = self.directory.error(one) if self.directory.state(one) == "failed" else None
            if place is not None:
                errors.setdefault(place, []).append(one.cell.name)
        for place, names in errors.items():
            last = place.read_text(encoding="utf-8").strip().splitlines()[-1]
            typer.secho("Failed: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
            typer.echo(f"{'; '.join(names)}\n  {last}\n  {place}", err=True)
        return not errors and not states(self.directory, self.planned)["open"]

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _both(checked: Sequence[Checked]) -> Table:
    lines = Table("metric", "recorded", "again", "difference", "allowed", box=SIMPLE_HEAD)
    for one in checked:
        both = one.recorded is not None and one.again is not None
        difference = f"{one.again - one.recorded:.2g}" if both else ""  # type: ignore[operator]
        allowed = "unknown" if one.allowed is None else f"{one.allowed:.2g}"
        lines.add_row(escape(one.metric.path), _digits(one.recorded), _digits(one.again), difference, allowed)
    return lines


def _digits(value: float | None) -> str:
    return "none" if value is None else f"{value:.9f}"
