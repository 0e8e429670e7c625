"""Checkpoints are whole or not there, whatever happens meanwhile, and a run goes on from them to the bit."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from worlds.small_models import training_rows
from worlds.small_trainers import trainer_of

from contralign import CALTrainer
from contralign.checkpoints import safe_checkpoints
from contralign.checkpoints.manifest import read_manifest
from contralign.checkpoints.run_errors import DamagedCheckpoint

FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from transformers import TrainerCallback
from worlds.small_trainers import trainer_of

class Fills(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        limit = 20_000 if state.global_step == 2 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

trainer = trainer_of("ours", sys.argv[1], steps=3, save_steps=1)
trainer.add_callback(Fills())
trainer.train()
print(trainer.failed_checkpoints)
"""


class Killed(BaseException):
    """What nobody catches, as SIGKILL."""


class DieAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def logged(trainer):
    times = ("runtime", "per_second", "train_loss", "total_flos")
    return [
        {name: value for name, value in entry.items() if not any(word in name for word in times)}
        for entry in trainer.state.log_history
    ]


def killed(trainer, after):
    trainer.add_callback(DieAfter(after))
    with pytest.raises(Killed):
        trainer.train()


CASES = {
    "plain": ("ours", {}),
    "drop": ("cal", {}),
    "mean": ("cal", {"contrast": "mean"}),
    "shuffle": ("cal", {"contrast": "shuffle"}),
    "adapters": ("cal", {"peft": True}),
    "user's": ("user's", {"contrast": "mean"}),
    "workers": ("cal", {"dataloader_num_workers": 1}),
    "short epochs": ("cal", {"contrast": "mean", "rows": 20, "save_steps": 3, "logging_steps": 4}),
}


FAST = ("mean", "short epochs")


@pytest.mark.bit_exact
@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_weights_and_logs_of_a_killed_run_are_those_of_an_unbroken_one(case, tmp_path):
    kind, changes = CASES[case]
    whole = trainer_of(kind, tmp_path / "whole", **changes)
    whole.train()
    killed(trainer_of(kind, tmp_path / "killed", **changes), after=5)
    resumed = trainer_of(kind, tmp_path / "killed", **changes)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert logged(resumed) == logged(whole)


@pytest.mark.bit_exact
@pytest.mark.parametrize("at", ["_save_optimizer_and_scheduler", "_save_rng_state", "_publish", "_rotate"])
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one_to_go_on_with(at, tmp_path, monkeypatch):
    trainer = trainer_of("cal", tmp_path, save_total_limit=1)
    original = getattr(CALTrainer, at)

    def die(self, *args):
        if self.state.global_step == 4:
            raise Killed
        return original(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(CALTrainer, at, die)
        with pytest.raises(Killed):
            trainer.train()
    steps = {"_rotate": 4}.get(at, 2)
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / f"checkpoint-{steps}")
    resumed = trainer_of("cal", tmp_path, save_total_limit=1)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_of("cal", tmp_path / "whole")
    whole.train()
    assert torch.equal(weights(resumed), weights(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-7", "whole"]


def test_a_checkpoint_bears_its_name_only_once_all_of_it_is_there_and_older_ones_go_last(tmp_path, monkeypatch):
    seen = []
    rename = os.replace

    def look(old, new):
        if Path(new).name == "checkpoint-4":
            seen.append((sorted(path.name for path in Path(old).iterdir()), sorted(os.listdir(tmp_path))))
        rename(old, new)

    monkeypatch.setattr(os, "replace", look)
    trainer_of("cal", tmp_path, steps=4, save_total_limit=1).train()
    [(files, beside)] = seen
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth", "exact_state_0.safetensors", "whole.json"} < set(
        files
    )
    assert beside == ["_writing", "checkpoint-2"]
    assert os.listdir(tmp_path) == ["checkpoint-4"]
    manifest = read_manifest(tmp_path / "checkpoint-4")
    assert set(manifest["files"]) == set(os.listdir(tmp_path / "checkpoint-4")) - {"whole.json"}
    assert manifest["processes"] == 1


@pytest.mark.bit_exact
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_taken(tmp_path, caplog):
    whole = trainer_of("cal", tmp_path / "whole")
    whole.train()
    killed(trainer_of("cal", tmp_path / "run"), after=5)
    cut = tmp_path / "run" / "checkpoint-4" / "optimizer.pt"
    cut.write_bytes(cut.read_bytes()[:100])
    resumed = trainer_of("cal", tmp_path / "run")
    resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-4 is passed over: optimizer.pt has 100 of" in caplog.text
    assert torch.equal(weights(resumed), weights(whole))
    with pytest.raises(DamagedCheckpoint, match=r"no checkpoint to go on with: optimizer\.pt has 100 of"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "damaged-checkpoint-4"))


def test_the_best_checkpoint_is_named_by_where_it_lies_and_kept(tmp_path):
    trainer = trainer_of(
        "cal",
        tmp_path,
        steps=6,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
        learning_rate=0.05,
        save_total_limit=1,
        evaluation=training_rows(count=4, dtype=torch.float32),
    )
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    best = tmp_path / f"checkpoint-{2 * (losses.index(max(losses)) + 1)}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert best.is_dir()
    assert f'"best_model_checkpoint": "{best}"' in (best / "trainer_state.json").read_text()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(max(losses), rel=1e-6)


@pytest.mark.bit_exact
def test_training_goes_on_without_a_checkpoint_that_the_disk_refused(tmp_path, monkeypatch, caplog):
    save, whole = torch.save, trainer_of("ours", tmp_path / "whole")
    whole.train()
    trainer = trainer_of("ours", tmp_path / "run")

    def full(value, place, *args, **kwargs):
        if trainer.state.global_step == 4 and "optimizer" in str(place):
            raise OSError(errno.ENOSPC, "No space left on device", str(place))
        save(value, place, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    trainer.train()
    assert trainer.failed_checkpoints == 1
    assert "checkpoint-4 could not be written: [Errno 28] No space left on device" in caplog.text
    assert "The last checkpoint is of step 2" in caplog.text
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint-2", "checkpoint-6", "checkpoint-7"]
    assert torch.equal(weights(trainer), weights(whole))


def test_a_disk_that_really_refuses_costs_a_checkpoint_and_not_the_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parents[1])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "1"
    assert "checkpoint-2 could not be written" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-3"]


def test_a_fault_while_saving_that_is_not_the_disk_s_is_not_hidden(tmp_path, monkeypatch):
    def fail(*args):
        raise TypeError("a fault")

    monkeypatch.setattr(safe_checkpoints, "write_manifest", fail)
    with pytest.raises(TypeError, match="a fault"):
        trainer_of("ours", tmp_path).train()


def test_how_often_to_save_may_change_when_a_run_goes_on(tmp_path):
    killed(trainer_of("cal", tmp_path), after=3)
    trainer_of("cal", tmp_path, save_steps=5).train(resume_from_checkpoint=True)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-2", "checkpoint-5", "checkpoint-7"]


def test_weights_of_several_types_are_read_as_they_were_written(tmp_path):
    torch.manual_seed(3)
    trainer = trainer_of("ours", tmp_path, steps=2)
    trainer.model.to(torch.bfloat16)
    trainer.model.lm_head.to(torch.float32)
    with torch.no_grad():
        trainer.model.lm_head.weight.add_(torch.randn_like(trainer.model.lm_head.weight))
    trainer.save_model(str(tmp_path / "saved"))
    before = weights(trainer)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    trainer._load_from_checkpoint(str(tmp_path / "saved"))
    assert torch.equal(weights(trainer), before)
