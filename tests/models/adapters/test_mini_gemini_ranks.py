"""Two processes train Mini-Gemini as one does, while one of them has pictures and the other text alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ranks" / "mini_gemini_ranks.py"
pytestmark = pytest.mark.slow


def run(folder, ranks, engine, grid, text, checkpointing=False):
    folder.mkdir()
    case = {"engine": engine, "grid": grid, "text": text, "batch_size": 4 // ranks, "checkpointing": checkpointing}
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone"] if ranks > 1 else []
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *torchrun, str(SCRIPT), str(folder), json.dumps(case)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("grid, text", [(1, "llama"), (2, "gemma")])
def test_ddp_and_fsdp_on_two_processes_equal_one_process(tmp_path, grid, text):
    alone = run(tmp_path / "alone", 1, "ddp", grid, text)
    assert alone["ranks"] == 1 and len(set(alone["loss"])) == 8
    for engine, sharding, checkpointing in (("ddp", "none", True), ("fsdp", "layers", False)):
        split = run(tmp_path / engine, 2, engine, grid, text, checkpointing)
        assert (split["ranks"], split["sharding"]) == (2, sharding)
        for number in ("loss", "grad_norm"):
            assert split[number] == pytest.approx(alone[number], rel=1e-5), (engine, number)
