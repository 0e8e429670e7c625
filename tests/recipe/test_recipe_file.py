"""Recipes on disk: one base, changes from the command line, and where recipes are found."""

import pytest

from contralign.recipe.recipe_file import (
    ABLATION_KEY,
    PACKAGED,
    apply_override,
    dump_recipe,
    find_recipe,
    load_recipe,
    packaged_recipes,
    parse,
    with_changes,
)
from contralign.recipe.schema import RecipeError
from contralign.training.cal_settings import CalSettings

BASE = """
model: {path: tiny}
data: {train: [scenes:train]}
stages:
  text: {kind: text, steps: 3, learning_rate: 1e-3, batch_size: 4}
  it: {train: [projector], steps: 5, learning_rate: 1e-3, batch_size: 4, cal: true}
cal: {alpha: 1}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "run.yaml").write_text("base: base.yaml\nstages: {it: {steps: 9}}\n")
    return tmp_path


def load(folder, *overrides):
    return load_recipe(folder / "run.yaml", overrides)


def test_a_recipe_states_the_difference_to_its_base(folder):
    recipe = load(folder)
    assert recipe.stages["it"].steps == 9
    assert recipe.stages["it"].batch_size == 4
    assert list(recipe.stages) == ["text", "it"]


def test_a_base_may_be_a_recipe_of_contralign_by_its_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: llava15_7b/baseline\nstages: {pt: null}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.name, list(recipe.stages), recipe.model.family) == ("mine", ["it"], "llava")


def test_the_name_is_that_of_the_file_and_not_the_base_s(folder):
    (folder / "base.yaml").write_text("name: ancestor\noutput_dir: somewhere\n" + BASE)
    recipe = load(folder)
    assert (recipe.name, recipe.output_dir) == ("run", None)


def test_null_takes_a_stage_of_the_base_away(folder):
    assert list(load(folder, "stages.text=null").stages) == ["it"]


@pytest.mark.parametrize(
    ("override", "where", "wanted"),
    [
        ("data.max_length=512", lambda recipe: recipe.data.max_length, 512),
        ("stages.it.learning_rate=1e-4", lambda recipe: recipe.stages["it"].learning_rate, 1e-4),
        ("cal.alpha=0", lambda recipe: recipe.cal.alpha, 0.0),
        ("cal.beta=.inf", lambda recipe: recipe.cal.beta, float("inf")),
        ("data.train=[a.json, b.json]", lambda recipe: recipe.data.train, ("a.json", "b.json")),
        ("data.train=mix665k.json", lambda recipe: recipe.data.train, ("mix665k.json",)),
        ("model.lora.r=8", lambda recipe: recipe.model.lora.r, 8),
        ("name=other", lambda recipe: recipe.name, "other"),
    ],
)
def test_an_override_changes_one_setting(folder, override, where, wanted):
    extra = ["stages.it.train=[language_model]"] if override.startswith("model.lora") else []
    assert where(load(folder, override, *extra)) == wanted


def test_cal_can_be_turned_off_from_the_command_line(folder):
    assert load(folder, "cal=null", "stages.it.cal=false").cal is None


def test_an_override_replaces_a_whole_section(folder):
    assert load(folder, "cal={beta: 3}", "cal={window: 5}").cal == CalSettings(window=5)


def test_later_overrides_win(folder):
    assert load(folder, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.max_lenght=5", "data.max_lenght: unknown setting; did you mean 'max_length'?"),
        ("stages.itt.steps=5", "stages.itt.steps: no such stage; did you mean 'it'? Known: text, it"),
        ("seed.x=1", "seed: wanted a whole number, got {'x': 1}"),
        ("stages={}", "stages: empty"),
        ("steps", "'steps': wanted key=value"),
        ("=3", "'=3': wanted key=value"),
        ("data..x=3", "an empty name between the dots"),
        ("stages.it.steps.x=3", "stages.it.steps.x: stages.it.steps is 9 and has no settings of its own"),
        ("data.train=[a", "data.train: this is not YAML"),
        ("cal={alpha: 1, alpha: 2}", "'alpha' stands twice"),
    ],
)
def test_an_override_that_cannot_be_followed_is_refused(folder, override, message):
    with pytest.raises(RecipeError) as refused:
        load(folder, override)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: gone.yaml", "gone.yaml does not exist"),
        ("base: run.yaml", "is built on this recipe itself"),
        ("base: 3", "base: wanted the name of a recipe file"),
        ("base: loop.yaml", "is built on this recipe itself"),
        ("seed: 1\nseed: 2", "line 2: 'seed' stands twice"),
        ("base: base.yaml\nstages:\n  it: {steps: 1}\n  it: {steps: 2}", "line 4: 'it' stands twice"),
        ("[1, 2]", "wanted settings (key: value), got list"),
        ("", "wanted settings (key: value), got NoneType"),
        ("a: [", "this is not YAML"),
        ("{[1]: 2}", "a name was wanted before ':'"),
        ("model: !!python/object/apply:os.getcwd []", "this is not YAML"),
    ],
)
def test_a_broken_file_is_refused(folder, text, message):
    (folder / "loop.yaml").write_text("base: run.yaml\n")
    (folder / "run.yaml").write_text(text)
    with pytest.raises(RecipeError) as refused:
        load(folder)
    assert message in str(refused.value)


def test_a_base_may_have_a_base(folder):
    (folder / "middle.yaml").write_text("base: base.yaml\nseed: 7\nstages: {it: {learning_rate: 0.5}}\n")
    (folder / "run.yaml").write_text("base: middle.yaml\nname: top\nstages: {it: {batch_size: 3}}\n")
    recipe, bottom = load(folder), load_recipe(folder / "base.yaml")
    assert (recipe.name, recipe.seed) == ("top", 7)
    assert (recipe.stages["it"].learning_rate, recipe.stages["it"].batch_size) == (0.5, 3)
    assert recipe.stages["it"].train == bottom.stages["it"].train


def test_a_recipe_may_be_based_on_one_of_the_papers(folder):
    (folder / "run.yaml").write_text("base: llava15_7b/cal\nname: mine\ncal: {alpha: 0}\n")
    recipe = load(folder)
    assert recipe.cal is not None and recipe.cal.alpha == 0
    assert recipe.stages["pt"].cal and recipe.stages["it"].global_batch == 128


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", ".001", "1E-3"])
def test_every_way_to_write_a_number_is_a_number(number):
    assert parse(number, "") == 0.001


def test_whole_numbers_and_text_stay_what_they_are():
    assert parse("[1, 1e, e5, v1.5, 2024]", "") == [1, "1e", "e5", "v1.5", 2024]


def test_the_resolved_recipe_reads_back_as_itself(folder):
    recipe = load(folder, "cal.beta=.inf", "stages.it.learning_rate=1e-5", "data.max_length=7")
    (folder / "resolved.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(folder / "resolved.yaml") == recipe


def test_an_override_leaves_the_values_it_was_given_alone():
    values = {"data": {"train": "x"}}
    assert apply_override(values, "data.max_length=3") == {"data": {"train": "x", "max_length": 3}}
    assert values == {"data": {"train": "x"}}


def test_changes_merge_mappings_and_replace_all_else():
    values = {"data": {"train": "x", "settings": {"scenes": {"count": 3}}}, "stages": {"it": {"steps": 1, "cal": True}}}
    changed = with_changes(
        values, {"data.settings": {"scenes": {"seed": 1}}, "stages.it.steps": 5, "data": {"train": "y"}, "cal": {}}
    )
    assert changed == {
        "data": {"train": "y", "settings": {"scenes": {"count": 3, "seed": 1}}},
        "stages": {"it": {"steps": 5, "cal": True}},
        "cal": {},
    }
    assert values["data"]["train"] == "x"
    with pytest.raises(RecipeError, match="no such stage"):
        with_changes(values, {"stages.its.steps": 5})


def test_an_ablation_is_no_recipe(tmp_path):
    (tmp_path / "noise.yaml").write_text("recipe: world.yaml\ngrid: {}\n")
    with pytest.raises(RecipeError, match="contralign ablate"):
        load_recipe(tmp_path / "noise.yaml")


@pytest.mark.parametrize("name", ["tiny/demo", "tiny/demo.yaml", "recipes/tiny/demo.yaml"])
def test_a_recipe_of_contralign_is_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == PACKAGED / "tiny" / "demo.yaml"


def test_a_file_goes_before_a_recipe_of_contralign(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_recipe("run.yaml").read_text().startswith("base: base.yaml")


@pytest.mark.parametrize("name", ["tiny/dmo", "../training/config", "gone.yaml"])
def test_a_recipe_that_is_nowhere_is_refused_with_the_known_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"no such recipe file.*tiny/demo"):
        find_recipe(name)


def test_files_of_accelerate_are_no_recipes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="accelerate/ddp: no such recipe file") as refused:
        find_recipe("accelerate/ddp")
    assert "zero3" not in str(refused.value)


@pytest.mark.parametrize("path", packaged_recipes(), ids=lambda path: path.stem)
def test_every_recipe_of_contralign_can_be_followed(path):
    if path.stem == "base" or ABLATION_KEY in parse(path.read_text(), path.name):
        pytest.skip("a base is no whole recipe, and an ablation none at all")
    assert load_recipe(path).stages
