"""Two processes: checkpoints of several ranks are whole or not there, and one rank's fate is everybody's."""

import json
import os

import pytest
from worlds.launched import needs_deepspeed, start

pytestmark = pytest.mark.slow
ENGINES = ["ddp", "fsdp", pytest.param("zero2", marks=needs_deepspeed), pytest.param("zero3", marks=needs_deepspeed)]


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rank_that_is_killed_ends_the_training_and_resuming_ends_with_the_same_weights(engine, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder, what in ((whole, "whole"), (killed, "die")):
        folder.mkdir()
        done = start("resumed_ranks.py", 2, folder, engine, what)
        assert (done.returncode == 0) == (what == "whole"), done.stderr[-6000:]
    assert "Signal 9 (SIGKILL)" in done.stderr
    assert sorted(os.listdir(killed)) == ["checkpoint-2"]
    files = {path.name for path in (killed / "checkpoint-2").iterdir()}
    assert {"whole.json", "exact_state_0.safetensors", "exact_state_1.safetensors", "rng_state_1.pth"} < files
    done = start("resumed_ranks.py", 2, killed, engine, "resume")
    assert done.returncode == 0, done.stderr[-6000:]
    assert result(killed)["sketch"] == pytest.approx(result(whole)["sketch"], abs=1e-6)
    assert result(killed)["losses"] == pytest.approx(result(whole)["losses"], rel=1e-5)
    if engine == "ddp":
        assert result(killed) == result(whole)


def test_a_rank_that_survives_says_that_another_is_gone(tmp_path):
    done = start("resumed_ranks.py", 2, tmp_path, "ddp", "die")
    assert "RankDied: step 4: another process of this training is gone" in done.stderr
    assert "The last checkpoint is of step 2" in done.stderr


def test_a_signal_to_one_rank_ends_all_of_them_after_the_same_step(tmp_path):
    done = start("resumed_ranks.py", 2, tmp_path, "ddp", "term")
    assert done.returncode == 0, done.stderr[-6000:]
    assert result(tmp_path)["step"] == 3
    assert (tmp_path / "checkpoint-3" / "whole.json").is_file()


def test_a_disk_that_refuses_one_rank_costs_all_of_them_that_checkpoint_alone(tmp_path):
    done = start("resumed_ranks.py", 2, tmp_path, "ddp", "full")
    assert done.returncode == 0, done.stderr[-6000:]
    assert result(tmp_path)["failed"] == 1
    assert "checkpoint-2 could not be written" in done.stderr
    assert (tmp_path / "checkpoint-6" / "whole.json").is_file()
