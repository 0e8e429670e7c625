"""Cells of seconds: shared steps once, resuming, takeover, failures."""

import json
import shutil

import pytest
import torch
from worlds.small_ablations import looks, made_directory, write_ablation

from contralign.ablation import worker as worker_module
from contralign.ablation.ablation_file import load_ablation
from contralign.ablation.cells import expand
from contralign.ablation.claims import Claims
from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import plan
from contralign.ablation.summary.results import collect
from contralign.ablation.worker import Worker
from contralign.run.steps import StepRunner


@pytest.fixture
def trained(monkeypatch):
    """(stage, arm, seed) of every training step that is run, in order."""
    steps = []
    original = StepRunner.train

    def remember(self, step):
        steps.append((step.stage.name, step.arm, self.recipe.seed))
        return original(self, step)

    monkeypatch.setattr(StepRunner, "train", remember)
    return steps


def numbers(directory, ablation, planned):
    results = collect(ablation, planned, directory)
    return {(tuple(one.row.values()), one.seed, one.path): one.value for one in results.measured}


@pytest.mark.slow
def test_equal_steps_run_once_and_every_cell_has_its_result(tmp_path, trained):
    directory, ablation, planned = made_directory(tmp_path)
    Worker(directory, planned, looks()).run()
    assert sorted(trained) == sorted(
        [("it", "mle", seed) for seed in (0, 1)]
        + [("last", arm, seed) for arm in ("mle", "cal") for seed in (0, 1) for _ in ("0", "0.5")]
    )
    found = numbers(directory, ablation, planned)
    assert len(found) == 16
    assert len(set(found.values())) == 16
    record = directory.record(planned[0].key)
    assert record["training"]["steps"] == 2
    assert record["training"]["seconds"] > 0
    assert record["threads"] == torch.get_num_threads()
    assert record["environment"]["versions"]["torch"] == torch.__version__
    assert record["recipe"]["stages"]["last"]["steps"] == 2
    swapped = [directory.record(one.key)["training"]["swapped"] for one in planned if one.cell.seed == 0]
    assert swapped == [{}, {}, {"last": 4}, {"last": 4}]


@pytest.mark.slow
def test_two_ablations_with_one_store_train_once_what_they_share(tmp_path, trained):
    ablation = load_ablation(write_ablation(tmp_path))
    planned = plan(expand(ablation, tmp_path))
    first = AblationDirectory(tmp_path / "first", tmp_path / "store")
    first.create(ablation)
    Worker(first, planned, looks(), keep_models=True).run()
    before = len(trained)
    wider = load_ablation(write_ablation(tmp_path), ["grid.noise.values=[0.5, 0.25]", "name=wider"])
    second = AblationDirectory(tmp_path / "second", tmp_path / "store")
    second.create(wider)
    Worker(second, plan(expand(wider, tmp_path)), looks(), keep_models=True).run()
    assert trained[before:] == [("last", arm, seed) for seed in (0, 1) for arm in ("mle", "cal")]
    assert len(collect(wider, plan(expand(wider, tmp_path)), second).measured) == 16
    assert not (tmp_path / "second" / "cells").exists()


def test_a_result_names_every_machine_that_made_it_and_one_store_takes_all_for_the_same(tmp_path, trained, monkeypatch):
    directory, ablation, planned = made_directory(tmp_path, seeds=[0], grid={})
    first = Worker(directory, planned, looks())
    for _ in range(4):  # build, the shared stage, the last stage and the evaluation of one arm
        assert first.do_one()
    here = worker_module.machine_of(first.environment)
    monkeypatch.setattr(
        worker_module, "describe_environment", lambda: {**first.environment, "processor": "another processor"}
    )
    Worker(directory, planned, looks()).run()
    assert [stage for stage, _, _ in trained] == ["it", "last", "last"]
    done = sorted((directory.record(one.key)["machine"] for one in planned), key=lambda one: one != here)
    assert done[0] == here
    names = " and ".join(sorted([here["processor"], "another processor"]))
    assert done[1] == {**here, "processor": names}
    assert {one.machine["processor"] for one in collect(ablation, planned, directory).measured} == {
        here["processor"],
        names,
    }


def test_models_that_no_cell_needs_any_more_are_gone(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    there = []

    def bind(recipe):
        evaluate = looks()(recipe)["look"]

        def look(arm, folder):
            there.append(sorted(path.name for path in directory.steps.iterdir() if path.is_dir()))
            return evaluate(arm, folder)

        return {"look": look}

    Worker(directory, planned, bind).run()
    shared = [step.key for step in planned[0].steps[:2]]
    assert set(shared) <= set(there[0]) & set(there[1])
    assert len(there[1]) == 3
    assert not [path for path in directory.steps.iterdir() if path.is_dir()]
    assert not list(directory.work.glob("*-*"))


def test_models_may_be_kept(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    Worker(directory, planned, looks(), keep_models=True).run()
    assert all((directory.model(step) / "config.json").is_file() for one in planned for step in one.steps)


def test_a_finished_cell_is_never_run_again_and_a_bigger_ablation_runs_what_is_new(tmp_path, trained):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    Worker(directory, planned, looks()).run()
    trained.clear()
    Worker(directory, planned, looks()).run()
    assert trained == []
    more = plan(expand(load_ablation(write_ablation(tmp_path, grid={})), tmp_path))
    Worker(directory, more, looks()).run()
    assert {seed for _, _, seed in trained} == {1}
    assert len(trained) == 3


@pytest.mark.slow
@pytest.mark.bit_exact
def test_a_run_in_pieces_ends_where_an_unbroken_one_does(tmp_path, monkeypatch):
    """A worker that is killed in a step leaves a claim and half a model; the next one starts that step again."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    whole, ablation, planned = made_directory(tmp_path / "one")
    Worker(whole, planned, looks()).run()
    broken, ablation_, planned_ = made_directory(tmp_path / "other")
    original = StepRunner.train
    done = []

    class Killed(BaseException):
        pass

    def die_in_the_fourth(self, step):
        done.append(step)
        took = original(self, step)
        if len(done) == 4:
            raise Killed
        return took

    with monkeypatch.context() as patched:
        patched.setattr(StepRunner, "train", die_in_the_fourth)
        patched.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            Worker(broken, planned_, looks()).run()
    assert 0 < sum(broken.state(one) == "done" for one in planned_) < len(planned_)
    Worker(broken, planned_, looks()).run()
    assert numbers(broken, ablation_, planned_) == numbers(whole, ablation, planned)


def test_a_result_of_several_cells_bears_the_name_of_the_first(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={"beta": {"key": "cal.beta", "values": [3, 5]}})
    Worker(directory, planned, looks()).run()
    mle = [one for one in planned if one.cell.arm == "mle"]
    assert len({one.key for one in mle}) == 1
    assert directory.record(mle[0].key)["settings"] == {"beta": "3"}
    assert len(list(directory.cells.glob("*.json"))) == 3


@pytest.mark.slow
def test_two_workers_share_the_work(tmp_path, trained):
    directory, _, planned = made_directory(tmp_path)
    first, second = (Worker(directory, planned, looks()) for _ in range(2))
    while first.do_one() or second.do_one():
        second.do_one()
    assert all(directory.state(one) == "done" for one in planned)
    assert len(trained) == 10


def test_what_another_worker_holds_is_left_to_it(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    with Claims(directory.claims).hold(planned[0].steps[0].key):
        assert not Worker(directory, planned, looks()).do_one()
    assert Worker(directory, planned, looks()).do_one()


def test_a_failing_cell_is_recorded_and_the_others_go_on(tmp_path):
    directory, ablation, planned = made_directory(tmp_path, seeds=[0])

    def bind(recipe):
        def look(arm, folder):
            if arm.name == "cal" and arm.swapped_ids:
                raise ArithmeticError("the swapped one")
            return looks()(recipe)["look"](arm, folder)

        return {"look": look}

    Worker(directory, planned, bind).run()
    assert [directory.state(one) for one in planned] == ["done", "done", "done", "failed"]
    error = directory.error(planned[3]).read_text()
    assert error.startswith("noise=0.5 arm=cal seed=0: evaluate\n")
    assert "ArithmeticError: the swapped one" in error
    assert len(collect(ablation, planned, directory).rows) == 3
    assert directory.model(planned[3].steps[-1]).is_dir()
    directory.forget_errors(planned)
    Worker(directory, planned, looks()).run()
    assert directory.state(planned[3]) == "done"


def test_a_failing_step_fails_all_cells_that_need_it(tmp_path, monkeypatch):
    directory, _, planned = made_directory(tmp_path)
    original = StepRunner.train

    def fail(self, step):
        if step.stage.name == "it" and self.recipe.seed == 1:
            raise MemoryError("too big")
        return original(self, step)

    monkeypatch.setattr(StepRunner, "train", fail)
    Worker(directory, planned, looks()).run()
    assert [directory.state(one) for one in planned] == ["done"] * 4 + ["failed"] * 4
    assert len({directory.error(one) for one in planned[4:]}) == 1


def test_files_of_an_evaluation_are_kept(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={}, arms={"mle": None, "cal": {}})

    def bind(recipe):
        def look(arm, folder):
            if arm.name == "cal":
                (folder / "note.txt").write_text("x")
            return {"right": 1, "loss": 1}

        return {"look": look}

    Worker(directory, planned, bind).run()
    kept = [path.relative_to(directory.cells).as_posix() for path in directory.cells.rglob("*.txt")]
    assert kept == [f"{planned[1].key}.files/look/note.txt"]


def test_workers_of_other_numbers_of_processes_are_refused(tmp_path):
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    (directory.path / "processes").write_text("2")
    with pytest.raises(ValueError, match="workers with 2 processes, and this one has 1"):
        Worker(directory, planned, looks()).run()


def test_sets_are_made_once_for_all_cells(tmp_path, monkeypatch):
    made = []
    original = worker_module.RecordReader.read

    def remember(self, data, sources, path, check=None):
        made.append(id(self))
        return original(self, data, sources, path, check)

    monkeypatch.setattr(worker_module.RecordReader, "read", remember)
    directory, _, planned = made_directory(tmp_path, seeds=[0], grid={})
    Worker(directory, planned, looks()).run()
    assert len(set(made)) == 1
    assert json.loads((directory.steps / f"{planned[0].steps[0].key}.json").read_text())["stage"] == "build"
