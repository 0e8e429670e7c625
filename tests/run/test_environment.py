"""Where a run happened."""

import json
import shutil
import subprocess

import pytest

from contralign.run import environment
from contralign.run.environment import describe_environment, find_trouble, git_commit, installed_version


def test_everything_described_is_json_and_names_the_versions_at_work():
    import torch
    import transformers

    described = json.loads(json.dumps(describe_environment()))
    assert described["versions"]["transformers"] == transformers.__version__
    assert described["versions"]["contralign"]
    assert described["torch_threads"] == torch.get_num_threads()


def test_a_package_that_is_not_installed_has_no_version():
    assert installed_version("no-such-package-at-all") is None


@pytest.mark.parametrize(
    ("torch", "torchvision", "troubled"),
    [
        ("2.13.0+cpu", "0.28.0", True),
        ("2.13.0", "0.28.0+cpu", True),
        ("2.13.0+cpu", "0.28.0+cpu", False),
        ("2.13.0+cpu", None, False),
    ],
)
def test_a_torchvision_of_another_build_is_trouble(torch, torchvision, troubled):
    assert bool(find_trouble(torch, torchvision)) == troubled


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository in which contralign pretends to live."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    package = tmp_path / "src" / "contralign" / "run"
    package.mkdir(parents=True)
    (package / "environment.py").write_text("")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    return tmp_path


def test_a_checkout_has_a_commit_and_says_whether_files_changed(checkout):
    clean = git_commit()
    (checkout / "new.txt").write_text("x")
    assert clean is not None
    assert (len(clean["commit"]), clean["changed"]) == (40, False)
    assert git_commit() == {"commit": clean["commit"], "changed": True}


def test_an_installed_package_inside_another_repository_has_no_commit(checkout, monkeypatch):
    installed = checkout / ".venv" / "contralign" / "run"
    installed.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(installed / "environment.py"))
    assert git_commit() is None
