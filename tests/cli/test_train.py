"""`contralign train`: exit codes, messages, and a whole run from the command line."""

import json

import pytest
import yaml
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner
from worlds.small_recipes import small_plan, write_records

from contralign.cli.main import app
from contralign.recipe.recipe_file import dump_recipe


@pytest.fixture
def recipe(tmp_path):
    """A small recipe on disk, with evaluations."""
    evaluated = {
        "data": {"eval": [str(write_records(tmp_path, 4, "eval.json"))]},
        "evaluate": {
            "grounding": {"batch_size": 4},
            "answers": {"max_new_tokens": 3},
            "gallery": {"samples": 2, "max_new_tokens": 3},
        },
    }
    path = tmp_path / "small.yaml"
    path.write_text(dump_recipe(small_plan(tmp_path, **evaluated).recipe))
    return path


def train(*words):
    return CliRunner().invoke(app, ["train", *map(str, words)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["cal.alpah=1"], "cal.alpah: unknown setting; did you mean 'alpha'?"),
        (["stages.it.steps=0"], "steps=0: wanted 1 or more"),
        (["cal.alpha"], "wanted key=value"),
        (["evaluate.grundig={}"], "evaluate.grundig: unknown evaluation; did you mean 'grounding'?"),
        (["evaluate.answers.limt=3"], "evaluate.answers.limt: unknown setting; did you mean 'limit'?"),
        (["evaluate.answers.limit=all"], "evaluate.answers.limit: wanted a whole number"),
        (["data.train=gone.json"], "gone.json"),
        (["model.tiny=null", "model.path=no/such-model"], "model.path='no/such-model' is no model directory"),
        (["data.settings.scenes.count=3"], "settings.scenes has no effect"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--dry-run", "--resolve"], "give one of them"),
        (["--dry-run", "--resume"], "have no effect beside --dry-run"),
        (["--gpus", "2"], "no effect without --dry-run"),
        (["--dry-run", "--gpu", "v100"], "GPU 'v100' is unknown"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(recipe, changes, message):
    refused = train(recipe, *changes)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
    assert "Traceback" not in refused.output


def test_a_recipe_that_is_nowhere_is_a_mistake():
    refused = train("nowhere.yaml")
    assert refused.exit_code == 2
    assert "nowhere.yaml: no such recipe file" in refused.output


def test_debug_shows_where(recipe):
    refused = train(recipe, "seed=-1", "--debug")
    assert isinstance(refused.exception, ValueError)


def test_the_resolved_recipe_is_printed_and_nothing_touched(recipe):
    shown = train(recipe, "cal.alpha=0.5", "--resolve")
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.output)["cal"]["alpha"] == 0.5
    assert not (recipe.parent / "run").exists()


def test_a_dry_run_prints_a_forecast_and_touches_nothing(recipe):
    shown = train(recipe, "cal.alpha=0.5", "--dry-run")
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "stage it" in words and "clamp [0.5, 5]" in words and "Data: every source is here." in words
    assert not (recipe.parent / "run").exists()


@pytest.mark.slow
def test_a_run_trains_evaluates_reports_and_prints(recipe):
    done = train(recipe)
    assert done.exit_code == 0, done.output
    run = recipe.parent / "run"
    results = json.loads((run / "results.json").read_text())["arms"]
    for arm in ("mle", "cal"):
        assert results[arm]["grounding"]["samples"] == 4
        assert results[arm]["answers"]["accuracy"]["n"] == 4
        assert len((run / "evaluations" / arm / "gallery" / "gallery.jsonl").read_text().splitlines()) == 2
        assert AutoModelForImageTextToText.from_pretrained(run / arm).config.model_type == "llava"
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "what colour?" in page
    assert "Does it say what is there?" in done.output
    assert "report.html" in done.output
    again = train(recipe)
    assert again.exit_code == 2
    assert "holds the finished run of this recipe" in " ".join(again.output.split())
    assert train(recipe, "--resume").exit_code == 0


@pytest.mark.slow
def test_report_false_writes_no_page(recipe):
    assert train(recipe, "report=false", "evaluate=null", "data.eval=[]").exit_code == 0
    assert (recipe.parent / "run" / "results.json").is_file()
    assert not (recipe.parent / "run" / "report.html").exists()
