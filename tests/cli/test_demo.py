"""`contralign demo` is the recipe tiny/demo, from anywhere."""

import pytest
import yaml
from typer.testing import CliRunner

from contralign.cli import demo as demo_module
from contralign.cli.actions import execute as execute_module
from contralign.cli.main import app
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe_file import dump_recipe, find_recipe, load_recipe


def test_the_demo_is_the_packaged_recipe_with_the_changes_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["demo", "seed=3", "--dry-run"])
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.output) == yaml.safe_load(
        dump_recipe(load_recipe(find_recipe("tiny/demo"), ["seed=3"]))
    )


@pytest.mark.parametrize(
    ("changes", "replaces"), [([], True), (["seed=1"], True), (["output_dir=mine"], False), (["name=mine"], False)]
)
def test_only_the_demo_s_own_folder_is_replaced(changes, replaces, monkeypatch):
    calls = []
    monkeypatch.setattr(
        execute_module, "execute", lambda recipe, resume=False, overwrite=False: calls.append(overwrite)
    )
    assert CliRunner().invoke(app, ["demo", *changes]).exit_code == 0
    assert calls == [replaces]


def test_a_mistake_in_a_change_is_exit_code_2():
    refused = CliRunner().invoke(app, ["demo", "sed=1"])
    assert refused.exit_code == 2
    assert "sed: unknown setting; did you mean 'seed'?" in refused.output


def test_the_demo_trains_both_arms_on_swapped_scenes():
    recipe = load_recipe(find_recipe(demo_module.RECIPE))
    assert recipe.name == demo_module.NAME
    assert list(plan_of(recipe).arms) == ["mle", "cal"]
    assert plan_of(recipe).stages[list(recipe.stages)[-1]].data.swap_noise == 0.3
