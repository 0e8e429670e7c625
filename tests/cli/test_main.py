"""The command line as a whole: verbs, help, and how fast it is there."""

import os
import subprocess
import sys

from typer.testing import CliRunner

from contralign.cli.main import app


def test_help_names_every_verb():
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert all(verb in shown.output for verb in ("demo", "train", "env"))


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = ("torch", "transformers", "yaml", "PIL")
    code = f"import sys, contralign.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_an_unknown_verb_is_refused():
    refused = CliRunner().invoke(app, ["trian"])
    assert refused.exit_code == 2
    assert "trian" in refused.output
