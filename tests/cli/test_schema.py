"""`contralign schema` prints the JSON Schema of recipes."""

import json

from typer.testing import CliRunner

from contralign.cli.main import app
from contralign.recipe.json_schema import recipe_schema


def test_the_schema_is_printed_as_json():
    shown = CliRunner().invoke(app, ["schema"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == recipe_schema()
