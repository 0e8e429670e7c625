"""`contralign train`: a recipe into a run directory."""

from __future__ import annotations

from typing import Annotated

import typer

from contralign.cli.mistakes import Debug, readable_mistakes

RecipeName = Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe of contralign: tiny/demo.")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, such as cal.alpha=0 or data.max_length=512."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an unfinished run stopped; begin where there is none.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the directory holds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")]


def train(
    recipe: RecipeName,
    changes: Changes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    debug: Debug = False,
) -> None:
    """Train what a recipe says, evaluate it, and write a run directory."""
    with readable_mistakes(debug):
        from contralign.training.recipe_file import dump_recipe, find_recipe, load_recipe

        resolved = load_recipe(find_recipe(recipe), changes or ())
        if dry_run:
            typer.echo(dump_recipe(resolved), nl=False)
            return
        from contralign.cli.execute import execute

        execute(resolved, resume=resume, overwrite=overwrite)
