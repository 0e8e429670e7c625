"""`model=tiny-shape`: what a rehearsal changes in a recipe, and what it must not."""

import pytest

from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import plain
from contralign.recipe.recipe_file import dump_recipe, find_recipe, load_recipe
from contralign.recipe.rehearsal import rehearsal_line
from contralign.recipe.schema import RecipeError

FULL = "llava_next_13b/cal"
CHANGED_IN_STAGES = {"steps", "epochs", "batch_size", "global_batch", "data"}
CHANGED_IN_DATA = {"train", "image_root", "settings"}


def recipe_of(*changes, name=FULL):
    return load_recipe(find_recipe(name), changes)


def differing(there, here):
    there, here = plain(there), plain(here)
    return {key for key in there if there[key] != here[key]}


def test_a_rehearsal_changes_size_length_and_data_and_nothing_else():
    full, small = recipe_of(), recipe_of("model=tiny-shape")
    assert differing(full, small) == {"name", "model", "data", "stages", "trainer"}
    assert differing(full.model, small.model) == {"shape"}
    assert differing(full.trainer, small.trainer) == {"dataloader_num_workers"}
    for name in full.stages:
        assert differing(full.stages[name], small.stages[name]) <= CHANGED_IN_STAGES
        assert differing(plan_of(full).stages[name].data, plan_of(small).stages[name].data) <= CHANGED_IN_DATA
        assert small.stages[name].steps == 4
        assert plan_of(small).stages[name].data.train == ("scenes:train",)


def test_changes_hold_wherever_the_shorthand_stands():
    before = recipe_of("stages.it.steps=7", "model=tiny-shape")
    after = recipe_of("model=tiny-shape", "stages.it.steps=7")
    assert before == after
    assert before.stages["it"].steps == 7


def test_given_data_take_the_place_of_the_built_in_ones():
    small = recipe_of("model=tiny-shape", "data.train=mine.json", "data.image_root=pictures")
    assert {plan_of(small).stages[name].data.train for name in small.stages} == {("mine.json",)}
    assert {plan_of(small).stages[name].data.image_root for name in small.stages} == {("pictures",)}


def test_data_given_for_one_stage_leave_the_other_to_the_built_in_ones():
    small = recipe_of("model=tiny-shape", "stages.it.data.train=mine.json", "stages.it.data.image_root=pictures")
    assert plan_of(small).stages["it"].data.train == ("mine.json",)
    assert plan_of(small).stages["pt"].data.train == ("scenes:train",)


def test_other_ways_to_say_length_and_batch_take_the_place_of_the_rehearsals():
    small = recipe_of("model=tiny-shape", "stages.pt.epochs=1", "stages.it.grad_accumulation=3")
    assert (small.stages["pt"].epochs, small.stages["pt"].steps) == (1, None)
    assert (small.stages["it"].grad_accumulation, small.stages["it"].global_batch) == (3, None)


def test_streams_are_rehearsed_where_records_are_given_and_not_on_the_built_in_set(tmp_path):
    changes = ["data.streaming=true", "data.count=9", "stages.it.data=null"]
    (tmp_path / "full.yaml").write_text(dump_recipe(recipe_of(*changes, name="llava15_7b/baseline")))
    on_scenes = load_recipe(tmp_path / "full.yaml", ["model=tiny-shape"])
    assert not plan_of(on_scenes).stages["it"].data.streaming
    own = load_recipe(tmp_path / "full.yaml", ["model=tiny-shape", "data.train=mine.json", "data.image_root=."])
    assert plan_of(own).stages["it"].data.streaming
    assert own.data.count is None


def test_a_rehearsal_is_read_back_from_its_resolved_recipe(tmp_path):
    small = recipe_of("model=tiny-shape")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(small))
    assert load_recipe(tmp_path / "recipe.yaml") == small


def test_it_does_not_meet_the_full_run_in_one_directory():
    assert recipe_of("model=tiny-shape").name == "llava_next_13b-cal-tiny-shape"


def test_a_projector_from_elsewhere_is_left_out():
    assert recipe_of("model=tiny-shape", name="mgm_hd_7b/baseline").model.projector is None


def test_records_held_out_become_built_in_ones(tmp_path):
    base = load_recipe(find_recipe("llava15_7b/baseline"), ["data.eval=held.json", "evaluate.grounding={}"])
    (tmp_path / "full.yaml").write_text(dump_recipe(base))
    small = load_recipe(tmp_path / "full.yaml", ["model=tiny-shape"])
    assert small.data.eval == ("scenes:heldout",)


def test_an_overlay_rehearses_its_base(tmp_path):
    full = tmp_path / "full.yaml"
    full.write_text(dump_recipe(recipe_of(name="llava15_7b/baseline")))
    (tmp_path / "small.yaml").write_text("base: full.yaml\nmodel: tiny-shape\nstages: {it: {steps: 3}}\n")
    small = load_recipe(tmp_path / "small.yaml")
    assert (small.name, small.model.shape) == ("small", "tiny")
    assert (small.stages["pt"].steps, small.stages["it"].steps) == (4, 3)


def test_a_model_that_is_there_has_no_small_shape():
    with pytest.raises(RecipeError, match="this recipe starts from 'tiny'"):
        recipe_of("model=tiny-shape", name="tiny/demo")


def test_the_line_says_steps_and_records_and_is_silent_on_full_recipes():
    assert rehearsal_line(plan_of(recipe_of())) is None
    line = rehearsal_line(plan_of(recipe_of("model=tiny-shape", "stages.pt.steps=2")))
    assert line is not None
    assert "llava_next in tiny shape" in line
    assert "pt 2, it 4" in line
    assert "scenes:train" in line
    assert "\n" not in line
