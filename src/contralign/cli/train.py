"""`contralign train`: a recipe into a run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from contralign.cli.user_errors import Debug, report_user_errors

if TYPE_CHECKING:
    from contralign.recipe.plan import RunPlan

Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, such as cal.alpha=0 or data.max_length=512."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print what would happen (weights that learn, steps, tokens, memory, time), look at the data, and stop.",
    ),
]


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe of contralign: tiny/demo.")],
    changes: Changes = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an unfinished run stopped; begin where there is none.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the directory holds.")] = False,
    dry_run: DryRun = False,
    resolve: Annotated[bool, typer.Option("--resolve", help="Print the resolved recipe as YAML and stop.")] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: how many; default: as many as need no accumulation.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="With --dry-run: a100 (the default), h100 or h200.")] = None,
    debug: Debug = False,
) -> None:
    """Train what a recipe says, evaluate it, and write a run directory."""
    with report_user_errors(debug):
        from contralign.recipe.files import check_files
        from contralign.recipe.recipe_file import dump_recipe, find_recipe, load_plan
        from contralign.recipe.rehearsal import rehearsal_line

        _refuse_unused_options(dry_run, resolve, resume or overwrite, gpus is not None or gpu is not None)
        plan = load_plan(find_recipe(recipe), changes or ())
        rehearsal = rehearsal_line(plan)
        if rehearsal:
            typer.echo(rehearsal, err=True)
        if resolve:
            typer.echo(dump_recipe(plan.recipe), nl=False)
            return
        if dry_run:
            _print_forecast(plan, gpus, gpu or "a100")
            return
        check_files(plan)
        from contralign.cli.actions.execute import execute

        execute(plan, resume=resume, overwrite=overwrite)


def _refuse_unused_options(dry_run: bool, resolve: bool, touches_run: bool, names_gpus: bool) -> None:
    """Refuse options that would have no effect."""
    if dry_run and resolve:
        raise ValueError("--dry-run prints a forecast and --resolve the recipe: give one of them")
    if (dry_run or resolve) and touches_run:
        raise ValueError("--resume and --overwrite have no effect beside --dry-run and --resolve, which run nothing")
    if names_gpus and not dry_run:
        raise ValueError("--gpus and --gpu have no effect without --dry-run: a run takes the devices it is started on")


def _print_forecast(plan: RunPlan, gpus: int | None, gpu: str) -> None:
    from rich.console import Console

    from contralign.bench.forecast.render import printed
    from contralign.bench.forecast.stages import forecast
    from contralign.cli.actions.evaluations import bind_evaluations

    bind_evaluations(plan.recipe)
    console = Console(highlight=False, emoji=False)
    for part in printed(forecast(plan, gpus, gpu)):
        console.print(part)
