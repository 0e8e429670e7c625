"""`contralign ablate`: a grid of settings × arms × seeds over one recipe, compared in pairs of equal seed."""

from pathlib import Path
from typing import Annotated

import typer

from contralign.cli.user_errors import Debug, report_user_errors


def ablate(
    ablation: Annotated[str, typer.Argument(metavar="ABLATION", help="A YAML file with recipe:, seeds: and grid:.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Changes to the recipe of all cells, such as stages.it.steps=100; name, seeds, grid, reference and "
            "metrics change the ablation itself.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of everything; default runs/ablate/NAME.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Folder of results and models that several ablations share, so that what is equal in them is done "
            "once; no model is removed from it. Default: the output folder."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes side by side, one thread each; default: one a core.")
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Be one worker: any number, on any machines that share the folder.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --worker: try what failed again, as a run without --worker does."),
    ] = False,
    list_cells: Annotated[
        bool, typer.Option("--list", help="Print the cells with their state and key, and stop.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Write tables and plots of the results there are; run nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Run one recorded cell again from nothing and compare its numbers.")
    ] = False,
    cell: Annotated[
        str | None, typer.Option("--cell", help="With --check: key or settings of the cell, as --list prints them.")
    ] = None,
    check_seed: Annotated[
        int | None, typer.Option("--check-seed", help="With --check: draw the cell by this seed; default 0.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="With --show or --check: a results.parquet to read instead.")
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print an sbatch script with an array of --workers, and stop.")
    ] = False,
    nproc_per_node: Annotated[
        int | None,
        typer.Option("--nproc-per-node", min=1, help="With --slurm: processes of a worker, started by torchrun."),
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the models of finished cells under steps/.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Run a grid of settings × arms × seeds, and compare in pairs of equal seed.

    Steps that do not differ between cells are trained once. A run that was stopped goes on when it is started again,
    and one that has grown by seeds, arms or values runs what is new. What fails is recorded, the rest goes on, and the
    next run tries it again.
    """
    with report_user_errors(debug):
        modes = {"--worker": worker, "--list": list_cells, "--show": show, "--check": check, "--slurm": slurm}
        asked = [name for name, is_given in modes.items() if is_given]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)}: each is a command of its own; give one of them")
        mode = asked[0] if asked else ""
        _refuse_unused(
            mode,
            {
                "--workers": (workers, ("", "--slurm")),
                "--retry-failed": (retry_failed, ("--worker",)),
                "--cell": (cell, ("--check",)),
                "--check-seed": (check_seed, ("--check",)),
                "--results": (results, ("--show", "--check")),
                "--nproc-per-node": (nproc_per_node, ("--slurm",)),
                "--keep-models": (keep_models, ("", "--worker", "--slurm")),
            },
        )
        if cell is not None and check_seed is not None:
            raise ValueError("--cell names the cell and --check-seed draws one: give one of them")
        from contralign.cli.actions.ablation_commands import AblationCommands

        commands = AblationCommands(ablation, changes or [], output, store)
        if mode == "--worker":
            commands.run_worker(keep_models=keep_models, retry_failed=retry_failed)
        elif mode == "--list":
            commands.list_cells()
        elif mode == "--show":
            commands.show(results)
        elif mode == "--check":
            agrees = commands.check(results, cell, check_seed or 0)
            raise typer.Exit(0 if agrees else 1)
        elif mode == "--slurm":
            commands.print_slurm(workers, nproc_per_node or 1, keep_models=keep_models)
        else:
            complete = commands.run(workers, keep_models=keep_models)
            raise typer.Exit(0 if complete else 1)


def _refuse_unused(mode: str, options: dict[str, tuple[object, tuple[str, ...]]]) -> None:
    """Refuse an option that the mode does not read."""
    for name, (value, modes) in options.items():
        if value not in (None, False) and mode not in modes:
            belongs = " or ".join(mode or "a run" for mode in modes)
            raise ValueError(f"{name} has no effect {f'beside {mode}' if mode else 'here'}: it belongs to {belongs}")
