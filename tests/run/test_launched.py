"""The real command under recipes/accelerate/*.yaml: two gloo processes on CPU against one, mixed with text alone."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from worlds.small_recipes import small_plan, write_records

from contralign.recipe.recipe_file import PACKAGED, dump_recipe

HERE = Path(__file__).parents[1] / "ranks"
FILES = PACKAGED / "accelerate"
ABORTED = "Signal 6 (SIGABRT)"  # gloo now and then aborts a rank between two collectives: docs/log.md
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="deepspeed is not installed: DS_ACCELERATOR=cpu DS_BUILD_OPS=0 pip install deepspeed",
)
pytestmark = pytest.mark.slow

STEPS = 50
ENGINES = {
    "ddp": ("ddp", "none"),
    "fsdp2": ("fsdp", "layers"),
    "zero2": ("zero2", "none"),
    "zero3": ("zero3", "modules"),
}
"""File -> how rank_engines.py tells accelerate that there is no GPU, and what of the model is sharded then."""
files = pytest.mark.parametrize(
    "name", ["ddp", "fsdp2", *(pytest.param(name, marks=needs_deepspeed) for name in ("zero2", "zero3"))]
)


def command(words, name=None, **variables):
    """`contralign train …`, under a file of recipes/accelerate/ on two ranks, or alone."""
    start = [sys.executable, "-m", "contralign"]
    if name:
        launch = ["-m", "accelerate.commands.launch", "--config_file", FILES / f"{name}.yaml", "--num_processes", "2"]
        start = [sys.executable, *launch, HERE / "launched.py", ENGINES[name][0]]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [*map(str, start), "train", *map(str, words)],
        env=os.environ | quiet | {"DS_ACCELERATOR": "cpu"} | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


def train(words, folder, name=None):
    """Run to the end; gloo's own aborts are tried once more (see test_ranks.py)."""
    for attempt in (1, 2):
        done = command([*words, f"output_dir={folder}"], name)
        if ABORTED not in done.stderr or attempt == 2:
            break
        print(f"{name} was aborted and starts again:\n{done.stderr[:6000]}")
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-6000:]
    return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Records of which most have no picture, so that a rank often has text alone; SGD, whose errors do not grow."""
    folder = tmp_path_factory.mktemp("recipe")
    stage = {"batch_size": 2, "steps": STEPS, "learning_rate": 0.05, "schedule": "constant"}
    trainer = {"logging_steps": 1, "optim": "sgd", "ddp_find_unused_parameters": False}
    recipe = small_plan(folder, stages={"it": stage}, arms=None, trainer=trainer).recipe
    file = write_records(folder, 32)
    records = json.loads(file.read_text())
    for number, record in enumerate(records):
        if number % 8 < 5:
            del record["image"]
            record["conversations"][0]["value"] = f"what colour was {number}?"
    file.write_text(json.dumps(records))
    path = folder / "small.yaml"
    path.write_text(dump_recipe(recipe))
    return path


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """One process with the batches of both."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train([recipe, "stages.it.batch_size=4"], folder)
    return folder


def numbers(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {name: [line[name] for line in lines if name in line] for name in ("loss", "nll", "grad_norm", "delta_q95")}


def assert_same_run(folder, alone):
    found, wanted = numbers(folder), numbers(alone)
    assert len(found["loss"]) == STEPS
    for name, values in wanted.items():
        assert found[name] == pytest.approx(values, rel=1e-5, abs=1e-6), name
    found, wanted = (load_file(place / "cal" / "model.safetensors") for place in (folder, alone))
    assert found.keys() == wanted.keys()
    assert all((found[name] - wanted[name]).abs().max() < 1e-5 for name in found)


@files
def test_two_ranks_of_each_file_equal_one_process(name, recipe, alone, tmp_path):
    done = train([recipe], tmp_path / "run", name)
    assert f"engine: {ENGINES[name][1]}, no" in done.stdout
    assert_same_run(tmp_path / "run", alone)


@files
def test_killed_ranks_go_on_from_the_engines_own_checkpoint(name, recipe, alone, tmp_path):
    words = [recipe, "trainer.save_steps=20", f"output_dir={tmp_path / 'run'}"]
    died = command(words, name, DIE_AT="33")
    assert died.returncode != 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*/*")] == ["checkpoint-20"]
    done = command([*words, "--resume"], name)
    assert done.returncode == 0, done.stderr[-6000:]
    assert_same_run(tmp_path / "run", alone)


@files
def test_bfloat16_is_said_by_the_recipe_alone(name, recipe, alone, tmp_path):
    done = train([recipe, "trainer.bf16=true"], tmp_path / "run", name)
    assert f"engine: {ENGINES[name][1]}, bf16" in done.stdout
    assert numbers(tmp_path / "run")["loss"] == pytest.approx(numbers(alone)["loss"], rel=0.03)


def test_fsdp2_without_accelerators_is_refused_and_not_ddp(recipe, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--config_file", FILES / "fsdp2.yaml", "--num_processes", "2"]
    words = ["-m", "contralign", "train", recipe, f"output_dir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, *map(str, [*launch, *words])], capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert "shards with FSDP between accelerators only" in re.sub(r"\s+", " ", done.stderr)


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: pip install 'contralign[qlora]'",
)
def test_two_ranks_on_a_quantised_language_model_equal_one_process_killed_or_not(recipe, alone, tmp_path):
    start = [f"model.path={alone / 'cal'}", "model.tiny=null", "model.quantization=nf4", "model.lora={r: 4}"]
    words = [recipe, *start, "trainer.save_steps=20"]
    train([*words, "stages.it.batch_size=4"], tmp_path / "alone")
    split = [*words, f"output_dir={tmp_path / 'run'}"]
    assert command(split, "ddp", DIE_AT="33").returncode != 0
    done = command([*split, "--resume"], "ddp")
    assert done.returncode == 0, done.stderr[-6000:]
    assert_same_run(tmp_path / "run", tmp_path / "alone")
