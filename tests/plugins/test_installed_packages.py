"""Packages that add names: installed as any package is, used by name in a recipe, on the command line, as objects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds.small_recipes import STAGE, TINY

HERE = Path(__file__).parent
RECIPE = f"""
name: gaze
model: {{path: tiny, tiny: {json.dumps(TINY)}}}
data:
  train: [squares:train]
  eval: [squares:heldout]
  settings: {{squares: {{count: 8}}}}
stages: {{it: {json.dumps({**STAGE, "cal": True})}}}
cal: {{weighting: steady, options: {{slope: 2}}, contrast: grey}}
arms: {{mle: null, cal: {{}}}}
evaluate: {{lengths: {{scale: 10}}}}
report: false
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which both packages are installed."""
    folder = tmp_path_factory.mktemp("site")
    sources = tmp_path_factory.mktemp("sources")
    packages = []
    for name in ("gaze", "torn"):  # building writes beside what it builds
        subprocess.run(["cp", "-r", HERE / name, sources / name], check=True)
        packages.append(str(sources / name))
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder), *packages], check=True, timeout=600
    )
    return folder


def python(installed, *words, **options):
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )


def contralign(installed, *words, **options):
    return python(installed, "-m", "contralign", *words, **options)


def test_names_are_added_and_a_package_that_fails_harms_nobody_else(installed):
    done = python(installed, HERE / "use_gaze.py")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    weightings, contrasts, sets, evaluations = said["names"]
    assert weightings[:2] == ["cal", "uniform"] and weightings[-2:] == ["steady", "torn"] and len(weightings) == 12
    assert contrasts[-2:] == ["grey", "torn"] and sets[-2:] == ["squares", "torn"]
    assert evaluations[-2:] == ["lengths", "torn"]
    assert said["described"] == {
        "class": "gaze.steady.Steady",
        "settings": {"slope": 1.0},
        "package": "contralign-gaze 1.2",
    }
    of_class = {"class": "gaze.grey.GreyPicture", "package": "contralign-gaze 1.2", "shade": 128}
    assert said["scored"] == {"contrast": "grey", "contrast_settings": of_class}
    for kind, message in zip(("weighting", "contrast", "data set", "evaluation"), said["torn"], strict=True):
        assert message.startswith(f"{kind} 'torn' is added by contralign-torn 0.3 (entry point contralign.")
        assert "RuntimeError: torn needs something that is not there" in message
    assert "contralign-torn 0.3" in said["config"]
    assert "weighting 'dft' is claimed by contralign itself and by contralign-torn 0.3" in said["taken"]
    assert said["setting"] == "contrast 'grey' has no setting 'shades'; its settings are shade"
    assert "{name: grey, SETTING: 1}" in said["short"]
    assert said["others"] == ["Cal", "Vig", "Tpo"]


def test_a_recipe_and_the_command_line_use_the_names(installed, tmp_path):
    recipe = tmp_path / "gaze.yaml"
    recipe.write_text(RECIPE)
    run = tmp_path / "run"
    done = contralign(installed, "train", recipe, f"output_dir={run}", "cal.options.slope=3")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "results.json").read_text())["arms"]["cal"]["lengths"] == {"words": 30.0, "samples": 8}
    package = "contralign-gaze 1.2"
    assert json.loads((run / "packages.json").read_text()) == {
        "sets squares": package,
        "evaluations lengths": package,
        "weightings steady": package,
        "contrasts grey": package,
    }
    scores = tmp_path / "grey.parquet"
    scored = contralign(installed, "score", run / "mle", "squares:train", "--contrast", "grey", "-o", scores)
    assert scored.returncode == 0, scored.stderr
    changes = [f"output_dir={tmp_path / 'other'}", f"arms.cal.scores={scores}", "cal.contrast={name: grey, shade: 0}"]
    refused = contralign(installed, "train", recipe, *changes)
    assert refused.returncode == 2 and "contrast_settings was" in refused.stderr, refused.stderr


def test_a_recipe_with_a_package_s_name_is_refused_where_that_is_not_installed_or_fails(installed, tmp_path):
    recipe = tmp_path / "gaze.yaml"
    recipe.write_text(RECIPE)
    place = f"output_dir={tmp_path / 'run'}"
    missing = contralign(tmp_path, "train", recipe, place)
    assert missing.returncode == 2 and "weighting='steady': wanted one of cal, uniform" in missing.stderr
    torn = contralign(installed, "train", recipe, place, "cal.weighting=torn", "cal.options={}")
    assert torn.returncode == 2 and "contralign-torn 0.3" in torn.stderr and "Traceback" not in torn.stderr
    assert not (tmp_path / "run").exists()
