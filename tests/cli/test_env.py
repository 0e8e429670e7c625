"""`contralign env`."""

import json

import transformers
from typer.testing import CliRunner

from contralign.cli.main import app
from contralign.run import environment


def test_the_table_names_versions_devices_and_flags():
    shown = CliRunner().invoke(app, ["env"])
    assert shown.exit_code == 0
    assert transformers.__version__ in shown.output
    assert all(name in shown.output for name in ("torch threads", "HF_HUB_OFFLINE", "peft", "trl", "git"))


def test_json_is_what_a_run_writes():
    shown = CliRunner().invoke(app, ["env", "--json"])
    assert json.loads(shown.output) == json.loads(json.dumps(environment.describe_environment()))


def test_trouble_is_shown_as_a_warning(monkeypatch):
    monkeypatch.setattr(environment, "find_trouble", lambda torch, torchvision: ["torchvision does not fit"])
    assert "Warning: torchvision does not fit" in CliRunner().invoke(app, ["env"]).output
