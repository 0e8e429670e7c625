"""`contralign bench`: a whole run at a size of nothing, its JSON, and its mistakes."""

import json

import pytest
import torch
from typer.testing import CliRunner

from contralign.bench.steps import DEFAULT_MODES, MODES
from contralign.cli.main import app

SMALL = "--hidden 32 --layers 1 --heads 4 --vocabulary 64 --image-tokens 4 --text-tokens 12 --label-tokens 4"


def bench(words):
    return CliRunner().invoke(app, ["bench", *words.split()])


def test_a_run_prints_a_table_and_writes_every_key(tmp_path):
    path = tmp_path / "bench.json"
    words = f"{SMALL} --checkpointing --rounds 5 --threads 1 --json {path} --profile"
    done = bench(words)
    assert done.exit_code == 0, done.output
    record = json.loads(path.read_text())
    for mode in DEFAULT_MODES:
        assert {"time_ratio", "time_ratio_min", "time_ratio_max", "seconds", "memory_ratio"} <= record[mode].keys()
        assert record[mode]["time_ratio_min"] <= record[mode]["time_ratio"] <= record[mode]["time_ratio_max"]
        assert mode in done.output
    assert record["mle"]["time_ratio"] == record["mle"]["memory_ratio"] == 1
    assert record["floor"] == pytest.approx(12 / (4 * 16))
    assert record["shape"]["checkpointing"] is True
    assert record["machine"]["torch_threads"] == 1
    assert [part["name"] for part in record["profile"]][-2:] == ["backward", "rest"]
    assert record["command"] == f"contralign bench {words}"
    assert "no optimizer step" in done.output
    assert "backward" in done.output


def test_modes_and_memory_can_be_left_out(tmp_path):
    path = tmp_path / "bench.json"
    words = f"--model llava_next {SMALL} --image-tokens 14 --modes cal --rounds 5 --threads 1 --no-memory"
    done = bench(f"{words} --json {path}")
    assert done.exit_code == 0, done.output
    record = json.loads(path.read_text())
    assert MODES.keys() & record.keys() == {"mle", "cal"}
    assert "memory_ratio" not in record["cal"]
    assert "--no-memory" in record["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model gone", "wanted one of llava15, llava_next, tiny, or a model directory"),
        ("--image-tokens 577", "wanted 576 (24 x 24) or 625 (25 x 25)"),
        ("--model llava_next --image-tokens 576", "is no number that anyres gives"),
        ("--rounds 3", "rounds=3: wanted 5 or more"),
        ("--modes cal,call", "call: no such mode"),
        ("--gpus 3", "--gpus has no effect without --plan"),
        ("--plan llava-next-13b --batch 3 --profile", "--batch, --profile has no effect beside --plan"),
        ("--plan llava-next-13", "did you mean llava-next-13b"),
        ("--plan llava-next-13b --gpu a10", "a100"),
        ("--threads 0", "--threads 0: wanted 1 or more"),
        ("--device tpu", "wanted cpu or cuda"),
        ("--label-tokens 128", "do not fit into text_tokens=128"),
        ("--batch 100000 --vocabulary 152000", "plain MLE alone needs more than"),
        ("--json no/such/folder/x.json", "there is no folder"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(words, message):
    refused = bench(words)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
    assert "Traceback" not in refused.output


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda(tmp_path):
    done = bench(f"{SMALL} --rounds 5 --device cuda --dtype bfloat16 --profile --json {tmp_path / 'bench.json'}")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "bench.json").read_text())["cal"]["memory_ratio"] > 0


def test_a_plan_predicts_every_mode_and_measures_nothing(tmp_path):
    path = tmp_path / "plan.json"
    done = bench(f"--plan llava-next-13b --gpus 16 --gpu a100 --json {path}")
    assert done.exit_code == 0, done.output
    record = json.loads(path.read_text())
    assert {"mle", "mle_fused", "cal", "cal_cached", "released", "floor"} <= record.keys()
    assert record["cal"]["time_ratio"] < record["released"]["time_ratio"]
    assert "llava-next-13b on 16 x a100" in done.output
