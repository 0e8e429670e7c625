"""A run that is killed four times, twice while something is written, ends as one that is not: in real processes."""

import importlib.util
from pathlib import Path

import pytest

PLACE = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"


@pytest.mark.slow
def test_four_kills_change_no_weight_no_event_and_no_result(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("kill_resume", PLACE)
    kill_resume = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill_resume)
    assert kill_resume.main(4, 1, tmp_path) == []
    shown = capsys.readouterr().out
    assert "3 files of weights" in shown
    assert "4 kills" in shown
