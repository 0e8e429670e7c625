"""From text to a plan without torch, and what a plan says."""

import subprocess
import sys

import pytest
from worlds.small_recipes import STAGE, small_plan

from contralign.recipe.files import check_files
from contralign.recipe.recipe_file import load_plan
from contralign.recipe.schema import RecipeError, from_mapping

HEAVY = ("torch", "transformers", "datasets", "PIL", "numpy", "accelerate")


def modules_after(code):
    check = f"import sys\n{code}\nfound = [name for name in {HEAVY} if name in sys.modules]\nassert not found, found"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import pkgutil, importlib, contralign.recipe as room\n"
        "for one in pkgutil.iter_modules(room.__path__): importlib.import_module(f'contralign.recipe.{one.name}')",
        "from contralign.recipe.recipe_file import find_recipe, load_plan\n"
        "for name in ('tiny/demo', 'llava15_7b/cal', 'mgm_hd_13b/cal', 'smol/quick'): load_plan(find_recipe(name))",
        "from contralign.recipe.json_schema import recipe_schema; recipe_schema()",
    ],
    ids=["importing the room", "planning recipes", "the schema"],
)
def test_recipes_are_planned_without_torch(code):
    done = modules_after(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--help"], "Train vision-language models"),
        (["train", "tiny/demo", "cal.alpah=1"], "cal.alpah: unknown setting; did you mean 'alpha'"),
        (["train", "tiny/demo", "trainer.loging_steps=1"], "trainer.loging_steps: unknown setting"),
        (["train", "gone.yaml"], "gone.yaml: no such recipe file"),
        (["train", "llava15_7b/cal"], "blip_laion_cc_sbu_558k.json' does not exist"),
    ],
)
def test_the_command_line_answers_a_mistake_without_torch(words, message):
    run = f"from contralign.cli.main import app\ntry: app({words})\nexcept SystemExit: pass"
    done = modules_after(run)
    assert done.returncode == 0, done.stderr
    assert message in done.stdout + done.stderr


def test_all_mistakes_of_a_recipe_are_said_at_once(tmp_path):
    (tmp_path / "bad.yaml").write_text("model: {pth: x}\ndata: {train: a.json, max_len: 5}\nstages: {}\n")
    with pytest.raises(RecipeError, match=r"(?s)model\.pth: unknown.*data\.max_len: unknown"):
        load_plan(tmp_path / "bad.yaml")


def test_a_plan_holds_every_stage_with_its_data_and_where_arms_part(tmp_path):
    stages = {"pt": {**STAGE, "data": {"max_length": 64}}, "it": {**STAGE, "cal": True}}
    plan = small_plan(tmp_path, stages=stages, arms={"mle": None, "cal": {"alpha": 2}})
    assert [(stage.name, stage.data.max_length) for stage in plan.stages.values()] == [("it", None), ("pt", 64)]
    assert plan.arms["mle"] is None and plan.arms["cal"].alpha == 2
    assert (plan.fork, plan.output_dir) == (0, tmp_path / "run")
    assert plan.with_seed(7).recipe.seed == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": ["gone.json"]}}, r"stages\.it\.data\.train: data file 'gone.json' does not exist"),
        ({"data": {"image_root": ["nowhere"]}}, r"stages\.it\.data\.image_root: 'nowhere' is not a folder"),
        ({"cal": {"scores": "gone.parquet"}}, r"arms\.cal\.scores: score file 'gone.parquet' does not exist"),
    ],
)
def test_files_that_are_not_here_are_named(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        check_files(small_plan(tmp_path, **changes))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"bytes", r"^recipe: wanted text, numbers, lists or settings, got b'bytes' \(bytes\)"),
        ({"a": {1, 2}}, r"^a: wanted text, numbers"),
        ([[0] * 400] * 400, r"^recipe: more than 100,000 values; are aliases"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(value, message):
    with pytest.raises(RecipeError, match=message):
        from_mapping(dict, value)
