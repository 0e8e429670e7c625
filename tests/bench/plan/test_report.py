from __future__ import annotations

from pathlib import Path

from contralign.bench.plan.report import report

DOCUMENT = Path(__file__).parents[3] / "docs" / "plan.md"


def test_the_document_holds_what_the_command_prints():
    document = DOCUMENT.read_text()
    assert "python -m contralign.bench.plan" in document
    for block in report().split("\n\n"):
        assert block in document, f"docs/plan.md lacks this table; print it again:\n{block}"
