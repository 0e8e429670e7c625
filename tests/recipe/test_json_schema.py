"""The schema of recipes accepts what is shipped, refuses what a run would refuse, and names the same key."""

import json

import pytest
import transformers
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from contralign.recipe.json_schema import recipe_schema
from contralign.recipe.recipe_file import ABLATION_KEY, PACKAGED, packaged_recipes, parse

RECIPES = [path for path in packaged_recipes() if ABLATION_KEY not in parse(path.read_text(), path.name)]
SHIPPED = PACKAGED / "recipe.schema.json"
BROKEN = {
    "model: {pth: x}": ["model"],
    "stages: {it: {steps: 1.5}}": ["stages", "it", "steps"],
    "stages: {it: {learning_rate: 0}}": ["stages", "it", "learning_rate"],
    "stages: {it: {train: [projektor]}}": ["stages", "it", "train", 0],
    "stages: {it: {data: {templat: chat}}}": ["stages", "it", "data"],
    "stages: {it: 5}": ["stages", "it"],
    "data: {swap_noise: 30}": ["data", "swap_noise"],
    "data: {template: vicuna}": ["data", "template"],
    "cal: {alpha: -1}": ["cal", "alpha"],
    "cal: {contrast: blurx:10}": ["cal", "contrast"],
    "cal: {weighting: quantil}": ["cal", "weighting"],
    "cal: {blur_sigma: 10}": ["cal"],
    "arms: {cal: {scor: logprob}}": ["arms", "cal"],
    "model: {lora: {r: 0}}": ["model", "lora", "r"],
    "trainer: {loging_steps: 5}": ["trainer"],
    "trainer: {bf16: 1.5}": ["trainer", "bf16"],
    "seed: true": ["seed"],
    "modle: {}": [],
}
SOUND = [
    "stages: {pt: null}",
    "model: tiny-shape",
    "data: {train: a.json}",
    "cal: {beta: .inf, contrast: 'drop:an image'}",
    "cal: {contrast: {name: patches, ratio: 0.5, seed: 3}}",
    "arms: {mle: null, cal: {}}",
    "evaluate: {grounding: null}",
    "trainer: {save_steps: null, report_to: [wandb]}",
]


@pytest.fixture(scope="module")
def validator():
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_recipe_is_valid_and_names_the_schema_in_its_first_line(validator, path):
    assert best_match(validator.iter_errors(parse(path.read_text(), path.name))) is None
    named = path.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SHIPPED


@pytest.mark.parametrize(("text", "place"), BROKEN.items())
def test_a_broken_recipe_is_refused_at_the_key(validator, text, place):
    found = best_match(validator.iter_errors(yaml.safe_load(text)))
    assert found is not None and list(found.absolute_path) == place


@pytest.mark.parametrize("text", SOUND)
def test_what_a_recipe_may_say_is_not_refused(validator, text):
    assert best_match(validator.iter_errors(parse(text, "here"))) is None


def test_every_setting_is_described(validator):
    sections = [validator.schema, *validator.schema["$defs"].values()]
    assert all(setting["description"] for section in sections for setting in section["properties"].values())


def test_the_shipped_file_is_the_schema_of_today():
    shipped, made = json.loads(SHIPPED.read_text()), recipe_schema()
    if transformers.__version__ != "5.23.0":  # the version of constraints.txt, by which the file was written
        shipped["properties"].pop("trainer"), made["properties"].pop("trainer")
    assert shipped == made, "contralign schema > src/contralign/recipes/recipe.schema.json"
