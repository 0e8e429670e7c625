"""What lies where in a run, its steps, and which older runs may be touched."""

from itertools import pairwise

import pytest
from worlds.small_recipes import STAGE, small_plan

from contralign.recipe.recipe_file import load_plan, load_recipe
from contralign.recipe.schema import RecipeError
from contralign.run.preflight import cal_configs
from contralign.run.run_directory import RunDirectory

PT = {**STAGE, "train": ["projector"]}


def directory(folder, **changes):
    return RunDirectory(small_plan(folder, **changes))


def steps_of(run):
    return run.steps(cal_configs(run.plan), "origin")


def made(folder, finished, **changes):
    run = directory(folder, **changes)
    run.create()
    if finished:
        run.write_json("results.json", {})
    return run


def test_shared_stages_come_first_and_every_arm_starts_from_their_end(tmp_path):
    run = directory(
        tmp_path, stages={"it": {"cal": False}, "text": PT, "pt": PT, "last": {**STAGE, "cal": True}, "more": STAGE}
    )
    steps = steps_of(run)
    assert [(step.arm, step.stage.name) for step in steps] == [
        ("shared", "it"),
        ("shared", "text"),
        ("shared", "pt"),
        ("mle", "last"),
        ("mle", "more"),
        ("cal", "last"),
        ("cal", "more"),
    ]
    start = str(tmp_path / "run" / "start")
    assert steps[0].start == "origin"
    assert str(steps[2].end) == start
    assert [step.start for step in steps if step.stage.name == "last"] == [start, start]
    assert [step.end for step in steps if step.stage.name == "more"] == [run / "mle", run / "cal"]
    assert all(step.start == str(before.end) for before, step in pairwise(steps) if step.arm == before.arm)


def test_only_stages_with_cal_of_arms_with_cal_are_trained_with_it(tmp_path):
    steps = steps_of(directory(tmp_path, stages={"it": {"cal": True}, "more": STAGE}))
    assert {(step.arm, step.stage.name) for step in steps if step.cal is not None} == {("cal", "it")}


def test_one_arm_shares_nothing(tmp_path):
    recipe = load_recipe_without_arms(tmp_path)
    assert [(step.arm, step.start) for step in steps_of(RunDirectory(recipe))] == [("cal", "origin")]


def load_recipe_without_arms(folder):
    run = made(folder, finished=False)
    return load_plan(run / "recipe.yaml", ["arms={}"])


def test_every_step_has_an_end_and_checkpoints_of_its_own(tmp_path):
    steps = steps_of(directory(tmp_path, stages={"it": {"cal": False}, "more": {**STAGE, "cal": True}}))
    assert len({step.end for step in steps}) == len(steps) == len({step.checkpoints for step in steps})


def test_a_new_or_empty_folder_is_free(tmp_path):
    run = directory(tmp_path)
    run.check()
    run.path.mkdir()
    run.check()


def test_the_recipe_in_the_directory_is_the_resolved_one(tmp_path):
    run = made(tmp_path, finished=False)
    assert load_recipe(run / "recipe.yaml") == run.recipe


@pytest.mark.parametrize(
    ("finished", "changes", "message"),
    [
        (
            True,
            {},
            "holds the finished run of this recipe: set output_dir= to another folder, or replace it with --overwrite",
        ),
        (False, {}, "holds the unfinished run of this recipe.*or go on with it: the same and --resume"),
        (True, {"seed": 5}, r"finished run of another recipe \(seed was 0, is 5\).*--overwrite"),
        (True, {"cal": {"alpha": 2}}, r"another recipe \(cal.alpha was 1.0, is 2.0\)"),
    ],
)
def test_a_run_that_is_there_is_not_touched(finished, changes, message, tmp_path):
    made(tmp_path, finished)
    with pytest.raises(RecipeError, match=message):
        directory(tmp_path, **changes).check()


def test_an_older_run_may_be_replaced_when_asked(tmp_path):
    old = made(tmp_path, finished=True)
    run = directory(tmp_path, seed=5)
    run.check(overwrite=True)
    run.create()
    assert not old.is_finished


def test_resuming_keeps_what_is_there_and_wants_the_same_recipe(tmp_path):
    run = made(tmp_path, finished=False)
    (run / "mle").mkdir()
    run.check(resume=True)
    run.create(resume=True)
    assert (run / "mle").is_dir()
    with pytest.raises(RecipeError, match=r"--resume: the run in .* had another recipe"):
        directory(tmp_path, seed=5).check(resume=True)


def test_another_output_folder_is_no_other_recipe(tmp_path):
    run = made(tmp_path, finished=False)
    moved = tmp_path / "moved"
    run.path.rename(moved)
    directory(tmp_path, output_dir=str(moved)).check(resume=True)


def test_where_there_is_nothing_to_resume_a_run_is_begun(tmp_path):
    run = directory(tmp_path)
    run.check(resume=True)
    run.create(resume=True)
    assert load_recipe(run / "recipe.yaml") == run.recipe


def test_a_removal_that_was_interrupted_leaves_no_run(tmp_path):
    run = made(tmp_path, finished=True)
    (run / ".overwritten").touch()
    (run / "cal").mkdir()
    directory(tmp_path, seed=5).check(resume=True)
    run.create(resume=True)
    assert [path.name for path in run.path.iterdir()] == ["recipe.yaml"]


def test_a_start_that_was_interrupted_leaves_the_folder_free(tmp_path):
    run = directory(tmp_path)
    run.path.mkdir()
    (run / ".recipe.yaml.writing").write_text("name: sm")
    run.check()
    run.create()
    assert [path.name for path in run.path.iterdir()] == ["recipe.yaml"]


def test_a_run_may_go_on_with_settings_that_teach_nothing_else(tmp_path):
    made(tmp_path, finished=False)
    changed = {"stages": {"it": {"on_nan": "skip"}}, "trainer": {"save_steps": 3, "dataloader_num_workers": 1}}
    directory(tmp_path, **changed).check(resume=True)
    with pytest.raises(RecipeError, match=r"stages\.it\.learning_rate"):
        directory(tmp_path, stages={"it": {"learning_rate": 1.0}}).check(resume=True)


def test_resume_and_overwrite_contradict_each_other(tmp_path):
    with pytest.raises(RecipeError, match="give one of them"):
        directory(tmp_path).check(resume=True, overwrite=True)


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    run = directory(tmp_path)
    run.path.mkdir()
    (run / "thesis.tex").write_text("x")
    with pytest.raises(RecipeError, match="is no run directory"):
        run.check(overwrite=True)
    assert (run / "thesis.tex").exists()


def test_cleaning_leaves_models_and_results(tmp_path):
    run = made(tmp_path, finished=True)
    for name in ("stages", "checkpoints", "start", "mle"):
        (run / name).mkdir()
    run.clean()
    assert sorted(path.name for path in run.path.iterdir()) == ["mle", "recipe.yaml", "results.json", "start"]


def test_without_an_output_folder_a_run_lies_under_runs(tmp_path):
    assert str(RunDirectory(small_plan(tmp_path, output_dir=None)).path) == "runs/small"
