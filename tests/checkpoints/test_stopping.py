"""Asked to stop, a run writes a checkpoint and leaves; the same command then ends with the same weights."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from worlds.small_recipes import small_plan

from contralign.checkpoints import stopping
from contralign.checkpoints.run_errors import Stopped
from contralign.checkpoints.stopping import SIGNALS, StopCallback, StopRequest
from contralign.run import steps
from contralign.run.run import run_plan

LONG = {"stages": {"it": {"steps": 6}}, "arms": {"mle": {}, "cal": None}}


@pytest.fixture
def sent(monkeypatch):
    """Send a signal to this very process at a step of the first arm."""

    def at(step, number):
        original = steps.LogToFile.on_log

        def send(self, args, state, control, logs=None, **kwargs):
            original(self, args, state, control, logs=logs, **kwargs)
            if (self.arm, state.global_step) == ("mle", step) and "loss" in logs:
                os.kill(os.getpid(), number)

        patched = pytest.MonkeyPatch()
        patched.setattr(steps.LogToFile, "on_log", send)
        return patched

    return at


@pytest.mark.bit_exact
@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_run_with_a_checkpoint_and_resuming_ends_with_the_same_weights(number, tmp_path, sent):
    whole = run_plan(small_plan(tmp_path, output_dir=str(tmp_path / "whole"), **LONG), {})
    recipe = small_plan(tmp_path, **LONG)
    patched = sent(3, number)
    with pytest.raises(
        Stopped, match=rf"stopped by {number.name} after step 4 of 6 of stage it \(mle\).*--resume"
    ) as stopped:
        run_plan(recipe, {}, resume=True)
    patched.undo()
    assert stopped.value.exit_code == 75
    assert (tmp_path / "run" / "checkpoints" / "mle-it" / "checkpoint-4").is_dir()
    assert not (tmp_path / "run" / "mle").exists()
    run = run_plan(recipe, {}, resume=True)
    for arm in ("mle", "cal"):
        one, other = (load_file(place / arm / "model.safetensors") for place in (whole, run))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_signal_in_the_last_step_lets_the_stage_be_saved(tmp_path, sent):
    patched = sent(2, signal.SIGTERM)
    recipe = small_plan(tmp_path)
    with pytest.raises(Stopped, match=r"stopped by SIGTERM at the end of stage it \(mle\)"):
        run_plan(recipe, {})
    patched.undo()
    assert (tmp_path / "run" / "mle").is_dir()
    assert run_plan(recipe, {}, resume=True).is_finished


def test_where_nothing_is_gained_by_waiting_the_run_leaves_at_once():
    with StopRequest().listening(), pytest.raises(Stopped, match="stopped by SIGUSR1 without waiting"):
        os.kill(os.getpid(), signal.SIGUSR1)


def test_a_second_ctrl_c_does_not_wait_for_the_step_and_one_that_comes_twice_is_one(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    request = StopRequest()
    request.training = True
    with request.listening():
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] = 101.0
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] = 105.0
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal is signal.SIGINT
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_listened_before_listens_again_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS]
    request = StopRequest()
    with request.listening():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_of_the_main_thread_nothing_is_installed():
    found = []

    def look():
        with StopRequest().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert found == [before]


def test_without_a_signal_the_callback_changes_nothing(tmp_path):
    from transformers import TrainerControl, TrainerState, TrainingArguments

    control = TrainerControl()
    callback = StopCallback(StopRequest())
    assert isinstance(callback, TrainerCallback)
    callback.on_step_end(TrainingArguments(str(tmp_path), use_cpu=True), TrainerState(), control)
    assert not control.should_save
    assert not control.should_training_stop


def test_a_process_that_loads_data_outlives_one_sigterm(tmp_path):
    script = (
        "import os, signal, sys, time\n"
        "from contralign.checkpoints.stopping import IgnoreFirstSigterm\n"
        "IgnoreFirstSigterm(lambda worker: print('worker', worker, flush=True))(3)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('alive', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still alive', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout.split("\n")[:-1] == ["worker 3", "alive"]
    assert done.returncode == -signal.SIGTERM
