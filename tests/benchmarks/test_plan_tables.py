from __future__ import annotations

import importlib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_document_holds_what_the_command_prints(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    report = importlib.import_module("plan_tables").report
    document = (ROOT / "docs" / "plan.md").read_text()
    assert "python benchmarks/plan_tables.py" in document
    for block in report().split("\n\n"):
        assert block in document, f"docs/plan.md lacks this table; print it again:\n{block}"
