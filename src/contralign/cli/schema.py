"""`contralign schema`: the JSON Schema of recipes, for editors."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of recipes, by which editors complete and check them.

    A recipe names it in its first line: # yaml-language-server: $schema=recipe.schema.json
    """
    from contralign.recipe.json_schema import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=1))
