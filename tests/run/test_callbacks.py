"""Metrics as JSON lines, and one bar a stage."""

import json

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from contralign.run import callbacks
from contralign.run.callbacks import LogToFile, MetricsFile, StageBar


def test_events_are_json_lines_with_arm_stage_and_step(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("cal", "it", 3, {"loss": 1.5})
    metrics.write("mle", "it", 4, {"loss": 1.25})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"arm": "cal", "stage": "it", "step": 3, "loss": 1.5}
    assert [event["arm"] for event in metrics.read()] == ["cal", "mle"]


def test_forgetting_touches_only_later_events_of_one_stage(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for arm in ("mle", "cal"):
        for step in (1, 2, 3):
            metrics.write(arm, "it", step, {})
    metrics.forget("cal", "it", after_step=1)
    assert [(event["arm"], event["step"]) for event in metrics.read()] == [
        ("mle", 1),
        ("mle", 2),
        ("mle", 3),
        ("cal", 1),
    ]


def test_nothing_logged_yet_reads_as_nothing(tmp_path):
    assert MetricsFile(tmp_path / "metrics.jsonl").read() == []


def test_the_trainer_s_logs_are_written_by_the_main_process_alone(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    args, control = TrainingArguments(str(tmp_path), use_cpu=True), TrainerControl()
    for main in (True, False):
        state = TrainerState(global_step=7, is_world_process_zero=main)
        LogToFile(metrics, "cal", "it").on_log(args, state, control, logs={"loss": 2.0, "total_flos": 1e9})
    assert metrics.read() == [{"arm": "cal", "stage": "it", "step": 7, "loss": 2.0}]


def test_the_bar_follows_the_steps_and_shows_the_loss(tmp_path, capsys):
    bar, args, control = StageBar("cal", "it"), TrainingArguments(str(tmp_path), use_cpu=True), TrainerControl()
    state = TrainerState(max_steps=5, global_step=2, is_world_process_zero=True)
    bar.on_train_begin(args, state, control)
    assert bar.bar is not None
    state.global_step = 4
    bar.on_step_end(args, state, control)
    assert (bar.bar.n, bar.bar.total) == (4, 5)
    bar.on_log(args, state, control, logs={"loss": 1.23456})
    bar.on_train_end(args, state, control)
    shown = capsys.readouterr().err
    assert "it (cal)" in shown
    assert "loss=1.235" in shown


def test_a_last_line_that_a_kill_left_half_written_is_passed_over_and_mended(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("cal", "it", 1, {"loss": 1.0})
    whole = metrics.path.read_bytes()
    metrics.path.write_bytes(whole + b'{"arm": "cal", "sta')
    assert [event["step"] for event in metrics.read()] == [1]
    metrics.forget("cal", "it", after_step=1)
    assert metrics.path.read_bytes() == whole


def test_a_line_in_the_middle_that_is_no_event_is_named(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.path.write_text('{"arm"\n{}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1 is no JSON"):
        metrics.read()


def test_lines_that_a_full_disk_refuses_wait_for_the_next(tmp_path, monkeypatch, caplog):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.write("cal", "it", 1, {})
    with monkeypatch.context() as patched:

        def some_of_it(file, content):
            file.write(content[:5])
            raise OSError(28, "No space left on device")

        patched.setattr(callbacks, "_write_all", some_of_it)
        for step in (2, 3):
            metrics.write("cal", "it", step, {})
    assert [event["step"] for event in metrics.read()] == [1]
    assert caplog.text.count("No space left on device") == 1
    metrics.write("cal", "it", 4, {})
    assert [event["step"] for event in metrics.read()] == [1, 2, 3, 4]
