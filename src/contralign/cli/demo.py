"""`contralign demo`: the recipe tiny/demo, which comes with contralign."""

import typer

from contralign.cli.train import Changes, DryRun
from contralign.cli.user_errors import Debug, report_user_errors

RECIPE, NAME = "tiny/demo", "demo"


def demo(changes: Changes = None, dry_run: DryRun = False, debug: Debug = False) -> None:
    """Train MLE and CAL from the same tiny model on CPU and compare them; an earlier demo is replaced."""
    with report_user_errors(debug):
        from contralign.recipe.recipe_file import dump_recipe, find_recipe, load_plan

        plan = load_plan(find_recipe(RECIPE), changes or ())
        recipe = plan.recipe
        if dry_run:
            typer.echo(dump_recipe(recipe), nl=False)
            return
        from contralign.cli.actions.execute import execute

        execute(plan, overwrite=recipe.output_dir is None and recipe.name == NAME)
