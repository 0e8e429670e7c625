"""The command as a user types it: mistakes, lists, a whole ablation in two processes, kills, checks."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from worlds.small_ablations import write_ablation

from contralign.cli.main import app

METRICS = [
    {"path": "grounding.accuracy.all.right", "label": "tokens right", "unit": "%", "better": "higher"},
    {"path": "grounding.nll.all.right", "unit": "nats", "better": "lower"},
]


@pytest.fixture
def ablation(tmp_path):
    return write_ablation(tmp_path, evaluate={"grounding": {}}, metrics=METRICS)


def ablate(ablation, *words):
    output = ["-o", str(ablation.parent / "out")] if "-o" not in words else []
    return CliRunner().invoke(app, ["ablate", str(ablation), *map(str, words), *output])


def start(ablation, *words):
    """The command in a process of its own, with its output."""
    command = [sys.executable, "-m", "contralign", "ablate", str(ablation), "-o", str(ablation.parent / "out"), *words]
    env = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def finish(ablation, *words):
    process = start(ablation, *words)
    output, _ = process.communicate()
    return process.returncode, output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cal.alpah=1"], "cal.alpah: unknown setting; did you mean 'alpha'?"),
        (["seeds=[]"], "seeds=[]: wanted one or more"),
        (["seed=1"], "seed=1 has no effect: set seeds=[0, 1]"),
        (["evaluate.grounding.limt=3"], "evaluate.grounding.limt: unknown setting; did you mean 'limit'?"),
        (["--show"], "has no finished cell"),
        (["--check"], "no cell of this ablation is recorded"),
        (["--show", "--list"], "--list and --show: each is a command of its own"),
        (["--cell", "x"], "--cell has no effect here: it belongs to --check"),
        (["--list", "--workers", "2"], "--workers has no effect beside --list: it belongs to a run or --slurm"),
        (["--retry-failed"], "it belongs to --worker"),
        (["--check", "--cell", "x", "--check-seed", "1"], "give one of them"),
        (["--show", "--results", "gone.parquet"], "gone.parquet: no such file of results"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(ablation, words, message):
    refused = ablate(ablation, *words)
    assert refused.exit_code == 2, refused.output
    assert message in " ".join(refused.output.split())
    assert "Traceback" not in refused.output
    assert not (ablation.parent / "out").exists()


def test_a_recipe_is_sent_to_train_and_an_ablation_to_ablate(ablation):
    refused = CliRunner().invoke(app, ["train", str(ablation)])
    assert refused.exit_code == 2
    assert f"contralign ablate {ablation}" in " ".join(refused.output.split())
    refused = ablate(ablation.parent / "world.yaml")
    assert refused.exit_code == 2
    assert "contralign train" in refused.output


def test_the_list_names_every_cell_with_its_state_and_key(ablation):
    shown = ablate(ablation, "--list")
    assert shown.exit_code == 0
    assert len(re.findall(r"open +noise=0?\.?\d arm=(?:mle|cal) seed=[01] +[0-9a-f]{16}", shown.output)) == 8
    assert "8 cells, 8 results, 12 steps (build 2, it 2, last 8) of 24 unshared" in shown.output
    assert not (ablation.parent / "out").exists()


def test_slurm_prints_a_script_of_workers(ablation):
    shown = ablate(ablation, "--slurm", "--workers", 5, "seeds=[0]")
    assert shown.exit_code == 0
    assert "#SBATCH --array=0-4" in shown.output
    assert f"ablate {ablation} 'seeds=[0]' --output {ablation.parent}/out --worker" in shown.output
    assert (ablation.parent / "out" / "logs").is_dir()


@pytest.mark.slow
def test_a_whole_ablation_in_two_processes_shows_itself_and_can_be_checked(ablation):
    out = ablation.parent / "out"
    code, output = finish(ablation, "--workers", "2")
    assert code == 0, output
    assert "tokens right (%): mean over seeds (95 %), higher is better" in output
    tables = (out / "tables.md").read_text()
    records = [json.loads(path.read_text()) for path in (out / "cells").glob("*.json")]
    assert {record["threads"] for record in records} == {1}
    assert len({record["pid"] for record in records}) == 2

    (out / "tables.md").unlink()
    shown = ablate(ablation, "--show")
    assert shown.exit_code == 0, shown.output
    assert (out / "tables.md").read_text() == tables

    checked = ablate(ablation, "--check", "--check-seed", "1")
    assert checked.exit_code == 0, checked.output
    assert "compared to the last digit" in checked.output
    elsewhere = ablation.parent / "committed.parquet"
    table = pq.read_table(out / "results.parquet")
    values = [value + 1e-5 for value in table["value"].to_pylist()]
    place = table.column_names.index("value")
    pq.write_table(table.set_column(place, "value", pa.array(values)), elsewhere)
    checked = ablate(ablation, "--check", "--results", elsewhere, "--cell", "noise=0 arm=cal seed=1")
    assert checked.exit_code == 1
    assert "differs from what is recorded: grounding.accuracy.all.right, grounding.nll.all.right" in checked.output
    machines = table["machine"].to_pylist()
    other = [json.dumps({**json.loads(machine), "processor": "another"}) for machine in machines]
    moved = table.set_column(table.column_names.index("machine"), "machine", pa.array(other))
    pq.write_table(moved, elsewhere)
    checked = ablate(ablation, "--check", "--results", elsewhere, "--cell", "noise=0 arm=cal seed=1")
    assert checked.exit_code == 0, checked.output
    assert "compared with the spread over seeds (95 %): it was recorded on another machine: processor" in checked.output
    pq.write_table(moved.set_column(place, "value", pa.array(values)), elsewhere)
    checked = ablate(ablation, "--check", "--results", elsewhere, "--cell", "noise=0 arm=cal seed=1")
    assert checked.exit_code == 1
    assert "cannot be judged, fewer than 3 seeds are recorded: grounding.accuracy.all.right" in checked.output
    shown = ablate(ablation, "--show", "--results", elsewhere, "-o", ablation.parent / "redrawn")
    assert shown.exit_code == 0, shown.output
    assert len(list((ablation.parent / "redrawn" / "plots").iterdir())) == 4


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(ablation):
    """The whole group is killed in the middle: claims and half-made models stay; the numbers must not show it."""
    out = ablation.parent / "out"
    first = start(ablation, "--workers", "2")
    deadline = time.time() + 600
    while not list((out / "cells").glob("*.json")) and time.time() < deadline and first.poll() is None:
        time.sleep(0.05)
    workers = children(first.pid)
    for pid in (first.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    first.stdout.close()
    done = {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert workers
    assert 0 < len(done) < 8
    code, output = finish(ablation, "--workers", "2")
    assert code == 0, output
    assert len(list((out / "cells").glob("*.json"))) == 8
    assert {name: (out / "cells" / name).stat().st_mtime_ns for name in done} == done
    assert not (out / "work").exists()
    assert not [path for path in (out / "steps").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_a_failing_cell_is_named_and_tried_again(ablation):
    for name in ("0", "1"):
        (ablation.parent / f"{name}.png").rename(ablation.parent / f"{name}.away")
    code, output = finish(ablation, "--workers", "1", "seeds=[0]", "grid=null")
    assert code == 1
    assert "Failed: arm=mle seed=0; arm=cal seed=0" in output
    assert "missing_picture" in output
    for name in ("0", "1"):
        (ablation.parent / f"{name}.away").rename(ablation.parent / f"{name}.png")
    code, output = finish(ablation, "--workers", "1", "seeds=[0]", "grid=null")
    assert code == 0, output
    assert "(one seed: no interval)" in output


@pytest.mark.slow
def test_a_worker_of_two_processes_trains_under_torchrun(ablation):
    out = ablation.parent / "out"
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "contralign"]
    words = ["ablate", str(ablation), "seeds=[0]", "grid=null", "-o", str(out), "--worker"]
    env = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *torchrun, *words], capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "processes").read_text() == "2"
    assert len(list((out / "cells").glob("*.json"))) == 2


def children(pid):
    """Processes that `pid` started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]
