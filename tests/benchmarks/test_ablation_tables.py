"""The tables of docs/results.md say what the results say."""

import importlib
import json
from pathlib import Path

import pytest
from worlds.small_ablations import made_results

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_difference_that_is_clear_of_zero_is_bold_and_others_are_not(script):
    numbers = {
        ("0", "mle"): [0.50, 0.60, 0.70],
        ("0", "cal"): [0.52, 0.63, 0.74],
        ("0.5", "mle"): [0.40, 0.50, 0.60],
        ("0.5", "cal"): [0.39, 0.50, 0.613],
    }
    lines = script("ablation_tables").table(made_results(numbers, unit="%", label="right")).splitlines()
    assert lines[0] == "| noise | arm | seeds | right, % | − mle (95 %) |"
    assert lines[2] == "| 0 | mle | 3 | 60.0 |  |"
    assert lines[3] == "| 0 | cal | 3 | 63.0 | **+3.0** (+0.5 to +5.5) |"
    assert lines[5].startswith("| 0.5 | cal | 3 | 50.1 | +0.1 (−2.")


def test_the_page_shows_what_was_committed(script):
    tables = script("ablation_tables")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.with_tables(page) == page
    wrong = page.replace("| cal | 5 | 76.6 |", "| cal | 5 | 86.6 |")
    assert wrong != page
    assert tables.with_tables(wrong) == page


def test_areas_are_averaged_over_seeds_and_one_seed_keeps_its_own_interval(script, tmp_path):
    (tmp_path / "cells").mkdir()
    for seed, value in enumerate((0.7, 0.8, 0.9)):
        area = {"value": value, "low": value - 0.1, "high": value + 0.1, "positives": 3, "negatives": 4}
        none = {"value": None, "low": None, "high": None, "positives": 0, "negatives": 4}
        tasks = {"visual_vs_filler": area, "visual_vs_contradictory": none}
        record = {
            "arm": "mle",
            "seed": seed,
            "settings": {"noise": "0.3"},
            "results": {"delta": {"auc": {"drop": {"logit": tasks}}}},
        }
        (tmp_path / "cells" / f"{seed}.json").write_text(json.dumps(record))
    delta_table = script("delta_table")
    lines = delta_table.cells(tmp_path)
    assert len(lines) == 6
    text = delta_table.tables(lines)
    assert "**arm mle, noise 0.3: AUC, visual over filler tokens**" in text
    assert "| drop | 0.800 (0.552 to 1.048) |" in text
    assert "contradictory" not in text
    assert "| drop | 0.700 (0.600 to 0.800) |" in delta_table.tables(lines[:2])
