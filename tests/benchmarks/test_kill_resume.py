"""A run that is killed four times, twice while something is written, ends as one that is not: in real processes."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.slow
def test_four_kills_change_no_weight_no_event_and_no_result(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    assert importlib.import_module("kill_resume").main(4, 1, tmp_path) == []
    shown = capsys.readouterr().out
    assert "3 files of weights" in shown
    assert "4 kills" in shown
