"""Two processes (gloo, CPU) against one on the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("two_ranks.py")


def run(folder, ranks, form, batch_size, accumulation, mixed="mixed"):
    folder.mkdir()
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone"]
    launcher = [sys.executable, *(torchrun if ranks > 1 else [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(SCRIPT), str(folder), form, str(batch_size), str(accumulation), mixed],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["exact", "paper"])
def test_two_ranks_and_accumulation_equal_one_process(form, tmp_path):
    whole = run(tmp_path / "one", 1, form, 8, 1)
    for name, batch_size, accumulation in (("two", 4, 1), ("accumulated", 2, 2)):
        split = run(tmp_path / name, 2, form, batch_size, accumulation)
        assert (whole["ranks"], split["ranks"]) == (1, 2)
        for number in ("loss", "nll", "delta_q95", "norm", "sketch"):
            assert split[number] == pytest.approx(whole[number], rel=1e-5, abs=1e-7), (name, number)


@pytest.mark.slow
def test_a_rank_with_text_alone_neither_hangs_nor_changes_the_loss(tmp_path):
    whole = run(tmp_path / "one", 1, "exact", 8, 1, "text_rank")
    split = run(tmp_path / "two", 2, "exact", 4, 1, "text_rank")
    for number in ("loss", "nll", "norm", "sketch"):
        assert split[number] == pytest.approx(whole[number], rel=1e-5, abs=1e-7), number
