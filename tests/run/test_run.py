"""Whole runs of seconds: arms from one start, everything written down, and resuming."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from worlds.small_recipes import STAGE, small_plan, write_records

from contralign.checkpoints.run_errors import NotFinite
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.recipe.recipe_file import load_recipe
from contralign.recipe.schema import RecipeError, merge
from contralign.run import steps
from contralign.run.callbacks import StageBar
from contralign.run.learning.trainable_parts import part_of
from contralign.run.run import run_plan

ALONE = {"train": [], "cal": False}


def weights(folder):
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def seen(monkeypatch):
    """Ids of the samples of every training batch, in order."""
    batches = []
    original = VLCollator.__call__

    def remember(self, samples):
        batches.append([sample.id for sample in samples])
        return original(self, samples)

    monkeypatch.setattr(VLCollator, "__call__", remember)
    return batches


def test_a_run_writes_its_models_and_everything_about_itself(tmp_path):
    recipe = small_plan(tmp_path, stages={"it": {"cal": False}, "last": {**STAGE, "cal": True}})
    run = run_plan(recipe, {})
    names = {path.name for path in run.path.iterdir()}
    assert names == {"recipe.yaml", "environment.json", "metrics.jsonl", "results.json", "start", "mle", "cal"}
    assert load_recipe(run / "recipe.yaml") == recipe.recipe
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["seed"] == 0
    assert {(event["arm"], event["stage"]) for event in run.metrics.read()} == {
        ("shared", "it"),
        ("mle", "last"),
        ("cal", "last"),
    }
    assert all("share_at_alpha" in event for event in run.metrics.read() if event["arm"] == "cal" and "loss" in event)
    for arm in ("start", "mle", "cal"):
        AutoProcessor.from_pretrained(run / arm)
        assert type(AutoModelForImageTextToText.from_pretrained(run / arm)).__name__ == "LlavaForConditionalGeneration"


def test_arms_see_the_same_records_in_the_same_order_from_the_same_start(tmp_path, seen):
    """With α = β CAL is MLE: equal starts, orders and rates end in equal weights, and anything else would show."""
    recipe = small_plan(
        tmp_path, stages={"it": {"steps": 5}}, arms={"uniform": {"alpha": 1, "beta": 1}, "cal": {"alpha": 0}}
    )
    run = run_plan(recipe, {})
    third = len(seen) // 3
    assert third >= 5
    assert seen[:third] == seen[third : 2 * third]
    assert seen[:third] == seen[2 * third :]
    assert len({tuple(batch) for batch in seen[:third]}) > 2
    mle, uniform, cal = (weights(run / arm) for arm in ("mle", "uniform", "cal"))
    for name in mle:
        assert torch.allclose(mle[name], uniform[name], atol=2e-5), name
    assert max((mle[name] - cal[name]).abs().max() for name in mle) > 1e-3


@pytest.mark.slow
def test_another_seed_gives_another_order(tmp_path, seen):
    for seed in (0, 1):
        run_plan(
            small_plan(tmp_path, seed=seed, output_dir=str(tmp_path / f"run{seed}"), arms={"cal": None, "mle": {}}), {}
        )
    half = len(seen) // 2
    assert seen[:half] != seen[half:]


@pytest.mark.bit_exact
@pytest.mark.slow
def test_a_run_repeats_itself_to_the_bit(tmp_path):
    first, second = (run_plan(small_plan(tmp_path, output_dir=str(tmp_path / name)), {}) for name in "ab")
    assert same(weights(first / "cal"), weights(second / "cal"))


@pytest.mark.parametrize(("kind", "part"), [("text", "language_model"), ("tower", "vision_tower")])
def test_a_part_that_learns_by_itself_moves_nothing_else(kind, part, tmp_path, monkeypatch):
    built = {}
    save = steps.save_start

    def keep(settings, samples, seed, folder):
        save(settings, samples, seed, folder)
        built.update(weights(folder))

    monkeypatch.setattr(steps, "save_start", keep)
    stages = {"it": {**ALONE, "kind": kind}, "last": {**STAGE, "cal": True}}
    run = run_plan(small_plan(tmp_path, stages=stages), {})
    start = weights(run / "start")
    assert {part_of(name) for name in start if not torch.equal(start[name], built[name])} == {part}
    assert [event["step"] for event in run.metrics.read() if event["stage"] == "it"] == [1, 2]


def test_swapped_records_are_named_and_reach_every_arm(tmp_path, seen):
    recipe = small_plan(
        tmp_path,
        data={"swap_noise": 0.5, "eval": [str(write_records(tmp_path, 4, "eval.json"))]},
        evaluate={"look": None},
    )
    looked = {}

    def look(arm, folder):
        looked[arm.name] = arm
        (folder / "note.txt").write_text("x")
        return {"n": len(arm.held_out), "right": 0.5}

    run = run_plan(recipe, {"look": look})
    swapped = json.loads((run / "swapped.json").read_text())
    assert len(swapped["it"]) == 4
    assert set(looked) == {"mle", "cal"}
    for arm in looked.values():
        assert arm.swapped_ids == set(swapped["it"])
        own = {sample.id: sample.pictures[0].name == f"{sample.id[1:]}.png" for sample in arm.train}
        assert {name for name, kept in own.items() if not kept} == arm.swapped_ids
        assert not arm.model.training
    results = json.loads((run / "results.json").read_text())
    assert results == {"name": "small", "arms": {arm: {"look": {"n": 4, "right": 0.5}} for arm in ("mle", "cal")}}
    assert (run / "evaluations" / "cal" / "look" / "note.txt").is_file()


def test_evaluations_read_as_the_last_stage_did(tmp_path):
    recipe = small_plan(
        tmp_path,
        data={"eval": [str(write_records(tmp_path, 4, "eval.json"))]},
        stages={"it": {"data": {"template": "plain", "max_length": 200}}},
        evaluate={"look": None},
    )
    collators = []

    def look(arm, folder):
        collators.append(arm.collate)
        return {"n": len(arm.held_out)}

    run_plan(recipe, {"look": look})
    assert [collator.max_length for collator in collators] == [200, 200]
    assert {type(collator.template).__name__ for collator in collators} == {"PlainTemplate"}


def test_bad_records_are_named_and_counted(tmp_path):
    recipe = small_plan(tmp_path, data={"on_bad": "skip"})
    (tmp_path / "3.png").unlink()
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:60])
    run = run_plan(recipe, {})
    bad = json.loads((run / "bad_records.json").read_text())["it"]
    assert bad["counts"] == {"missing_picture": 1, "corrupt_picture": 1}
    assert bad["total"] == 8
    assert ["records.json" in left_out["record"] for left_out in bad["records"]] == [True, True]


def with_a_record_that_is_too_long(folder, **changes):
    """A recipe that finds out about it when a batch is made: nothing to learn is left of r3."""
    records = json.loads(write_records(folder).read_text())
    records[3]["conversations"][0]["value"] += " what colour?" * 40
    (folder / "long.json").write_text(json.dumps(records))
    data = {"train": [str(folder / "long.json")], "on_bad": "skip", "max_length": 60}
    return small_plan(folder, **merge({"data": data, "trainer": {"save_steps": 3}}, changes))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_batches_leave_out_is_named_once_by_whichever_process_makes_them(tmp_path, monkeypatch, workers):
    stage = {**STAGE, "steps": 9, "batch_size": 2, "cal": True}
    recipe = with_a_record_that_is_too_long(
        tmp_path, stages={"it": stage}, arms=None, trainer={"dataloader_num_workers": workers}
    )

    def die(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(StageBar, "on_step_end", die)
        run_plan(recipe, {})
    run = run_plan(recipe, {}, resume=True)
    bad = json.loads((run / "bad_records.json").read_text())["it"]
    assert (bad["counts"], bad["total"]) == ({"no_label_left": 1}, 8)
    assert [left_out["record"] for left_out in bad["records"]] == ["long.json, r3"]


@pytest.mark.bit_exact
def test_a_run_that_died_after_its_last_checkpoint_makes_no_step_more(tmp_path, monkeypatch):
    stage = {**STAGE, "steps": 6, "batch_size": 2, "schedule": "constant", "cal": True}
    recipes = [
        small_plan(
            tmp_path,
            output_dir=str(tmp_path / name),
            stages={"it": stage},
            arms=None,
            trainer={"save_steps": 3, "logging_steps": 1},
        )
        for name in ("whole", "broken")
    ]
    whole = run_plan(recipes[0], {})
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(steps, "finished_model", lambda model: (_ for _ in ()).throw(KeyboardInterrupt))
        run_plan(recipes[1], {})
    broken = run_plan(recipes[1], {}, resume=True)
    assert same(weights(whole / "cal"), weights(broken / "cal"))
    assert [max(event["step"] for event in run.metrics.read()) for run in (whole, broken)] == [6, 6]


def test_a_step_with_nothing_to_learn_is_one_in_both_arms(tmp_path):
    run = run_plan(with_a_record_that_is_too_long(tmp_path, stages={"it": {"steps": 8, "batch_size": 1}}), {})
    losses = {arm: [e["loss"] for e in run.metrics.read() if e["arm"] == arm and "loss" in e] for arm in ("mle", "cal")}
    assert [loss == 0 for loss in losses["mle"]] == [loss == 0 for loss in losses["cal"]]
    assert losses["mle"].count(0) == 1


def test_bad_held_out_records_are_named_too(tmp_path):
    write_records(tmp_path)
    broken = {"id": "x", "image": "gone.png", "conversations": []}
    records = [*json.loads((tmp_path / "records.json").read_text())[:3], broken]
    (tmp_path / "eval.json").write_text(json.dumps(records))
    held_out = {"eval": [str(tmp_path / "eval.json")], "on_bad": "skip"}
    run = run_plan(
        small_plan(tmp_path, data=held_out, evaluate={"n": None}), {"n": lambda arm, _: {"n": len(arm.held_out)}}
    )
    assert json.loads((run / "results.json").read_text())["arms"]["cal"] == {"n": {"n": 3}}
    assert sum(json.loads((run / "bad_records.json").read_text())["data.eval"]["counts"].values()) == 1


def test_a_bad_record_ends_the_run_unless_it_may_be_skipped(tmp_path):
    recipe = small_plan(tmp_path)
    (tmp_path / "3.png").unlink()
    with pytest.raises(BadRecord, match="missing_picture"):
        run_plan(recipe, {})


def test_evaluations_must_be_those_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"evaluate: \[\] wanted, functions for \['look'\] given"):
        run_plan(small_plan(tmp_path), {"look": lambda arm, folder: {}})
    assert not (tmp_path / "run").exists()


def test_settings_that_the_trainer_refuses_stop_the_run_before_it_starts(tmp_path):
    recipe = small_plan(tmp_path, trainer={"optim": "adamm"})
    with pytest.raises(RecipeError, match="trainer: "):
        run_plan(recipe, {})
    assert not (tmp_path / "run").exists()


def interrupted(recipe, monkeypatch, at_step):
    """Run until the CAL arm has trained `at_step` steps, then die without cleaning up."""

    class Died(BaseException):
        pass

    original = steps.LogToFile.on_log

    def die(self, args, state, control, logs=None, **kwargs):
        original(self, args, state, control, logs=logs, **kwargs)
        if self.arm == "cal" and state.global_step == at_step:
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(steps.LogToFile, "on_log", die)
        with pytest.raises(Died):
            run_plan(recipe, {})


@pytest.mark.slow
@pytest.mark.bit_exact
@pytest.mark.parametrize("model", [{}, {"lora": {"r": 2}}], ids=["full", "lora"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(model, tmp_path, monkeypatch):
    changes = {"model": model, "stages": {"it": {"steps": 6, "grad_accumulation": 2}}, "trainer": {"save_steps": 2}}
    whole = run_plan(small_plan(tmp_path, output_dir=str(tmp_path / "whole"), **changes), {})
    recipe = small_plan(tmp_path, **changes)
    interrupted(recipe, monkeypatch, at_step=5)
    with pytest.raises(RecipeError, match="--resume"):
        run_plan(recipe, {})
    before = (tmp_path / "run" / "mle" / "model.safetensors").stat().st_mtime_ns
    run = run_plan(recipe, {}, resume=True)
    assert (run / "mle" / "model.safetensors").stat().st_mtime_ns == before
    numbers = [event["step"] for event in run.metrics.read() if event["arm"] == "cal" and "loss" in event]
    assert numbers == [1, 2, 3, 4, 5, 6]
    one, other = weights(whole / "cal"), weights(run / "cal")
    assert max((one[name] - other[name]).abs().max() for name in one) < 1e-6
    assert not (run / "checkpoints").exists()


def test_without_checkpoints_the_stage_starts_again(tmp_path, monkeypatch):
    recipe = small_plan(tmp_path)
    interrupted(recipe, monkeypatch, at_step=2)
    run = run_plan(recipe, {}, resume=True)
    assert [event["step"] for event in run.metrics.read() if event["arm"] == "cal" and "loss" in event] == [1, 2]
    assert run.is_finished


def test_a_part_that_learns_by_itself_logs_every_step_once_though_it_was_killed_before_it_was_saved(
    tmp_path, monkeypatch
):
    stages = {"it": {**ALONE, "kind": "text"}, "last": {**STAGE, "cal": True}}
    recipe = small_plan(tmp_path, stages=stages)
    with monkeypatch.context() as patched:
        patched.setattr(steps, "save_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_plan(recipe, {})
    run = run_plan(recipe, {}, resume=True)
    assert [event["step"] for event in run.metrics.read() if event["stage"] == "it"] == [1, 2]


def test_arms_that_were_evaluated_before_the_run_was_killed_are_not_evaluated_again(tmp_path):
    recipe = small_plan(
        tmp_path, data={"eval": [str(write_records(tmp_path, 4, "eval.json"))]}, evaluate={"look": None}
    )
    looked = []

    def look(arm, folder):
        looked.append(arm.name)
        if len(looked) == 2:
            raise KeyboardInterrupt
        return {"n": len(arm.held_out), "right": 0.1}

    with pytest.raises(KeyboardInterrupt):
        run_plan(recipe, {"look": look})
    run = run_plan(recipe, {"look": look}, resume=True)
    assert looked == ["mle", "cal", "cal"]
    results = json.loads((run / "results.json").read_text())["arms"]
    assert results == {arm: {"look": {"n": 4, "right": 0.1}} for arm in ("mle", "cal")}


def test_a_nan_in_a_stage_ends_the_run_with_its_records_and_may_be_skipped_when_it_goes_on(tmp_path, monkeypatch):
    recipe = small_plan(tmp_path, stages={"it": {"steps": 3}}, arms={"cal": {}})
    collate = VLCollator.__call__

    def break_r3(self, samples):
        batch = collate(self, samples)
        if any(sample.id == "r3" for sample in samples):
            batch["pixel_values"] = batch["pixel_values"] * float("nan")
        return batch

    monkeypatch.setattr(VLCollator, "__call__", break_r3)
    with pytest.raises(NotFinite, match=r"the loss is nan; its records: .*r3"):
        run_plan(recipe, {})
    skipping = small_plan(tmp_path, stages={"it": {"steps": 3, "on_nan": "skip"}}, arms={"cal": {}})
    run = run_plan(skipping, {}, resume=True)
    assert [event.get("skipped_steps") for event in run.metrics.read() if "loss" in event][-1] in (1, 2)
    assert all(torch.isfinite(value).all() for value in weights(run / "cal").values())


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    run = run_plan(small_plan(tmp_path), {})
    shutil.rmtree(run / "cal")
    run_plan(small_plan(tmp_path), {}, resume=True)
    assert not (run / "cal").exists()


def test_what_trains_in_bfloat16_is_evaluated_in_it(tmp_path):
    def look(arm, folder):
        return {"mixed": torch.is_autocast_enabled("cpu")}

    held_out = write_records(tmp_path, 4, "eval.json")
    found = {}
    for bf16 in (False, True):
        recipe = small_plan(
            tmp_path,
            data={"eval": [str(held_out)]},
            evaluate={"look": None},
            trainer={"bf16": bf16},
            output_dir=str(tmp_path / f"run{bf16}"),
        )
        directory = run_plan(recipe, {"look": look})
        found[bf16] = json.loads((directory / "results.json").read_text())["arms"]["mle"]["look"]["mixed"]
    assert found == {False: False, True: True}
