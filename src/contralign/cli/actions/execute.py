"""Running a resolved recipe, for `train` and `demo`: train, evaluate, report, print."""

import json
from collections.abc import Iterator

from accelerate import PartialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from contralign.analysis.render.html import write_report
from contralign.analysis.render.tables import Cell, Results, result_tables
from contralign.analysis.run_report import report_of_run
from contralign.checkpoints.run_errors import Stopped
from contralign.checkpoints.saving import safe_write
from contralign.cli.actions.evaluations import bind_evaluations
from contralign.cli.ranks import leave_process_group
from contralign.recipe.plan import RunPlan
from contralign.run.run import run_plan


def execute(plan: RunPlan, resume: bool = False, overwrite: bool = False) -> None:
    """Run a plan, write its report, and print its results and where they lie.

    Raises:
        RunError: the run had to stop and can go on.
    """
    try:
        directory = run_plan(plan, bind_evaluations(plan.recipe), resume=resume, overwrite=overwrite)
    except Stopped:  # all ranks have stopped together
        leave_process_group()
        raise
    is_main = PartialState().is_main_process
    leave_process_group()
    if not is_main:
        return
    results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    console = Console()
    for table in printed(results["arms"]):
        console.print(table)
    console.print(f"Run directory: {directory.path}", highlight=False, markup=False, soft_wrap=True)
    if plan.recipe.report:
        page = directory / "report.html"
        with safe_write(page) as partial:
            write_report(partial, report_of_run(directory.path))
        console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)


def printed(results: Results) -> Iterator[Table]:
    """The result tables of the report that are not folded, for the terminal."""
    for table in (table for table in result_tables(results) if not table.folded):
        lines = Table("", *table.arms, title=table.title, title_justify="left", box=SIMPLE_HEAD)
        above = ""
        for row in table.rows:
            if row.group and row.group != above:
                lines.add_row(f"[bold]{escape(row.group)}")
            above = row.group
            lines.add_row(f"{'  ' if row.group else ''}{escape(row.name)}", *map(_words, row.cells))
        yield lines


def _words(cell: Cell | None) -> str:
    """The value with its interval, the unit said once: 41.2 % (39.8 to 42.7)."""
    if cell is None:
        return ""
    interval = cell.interval.replace(" %", "")
    return escape(f"{cell.value} ({interval})" if interval else cell.value)
