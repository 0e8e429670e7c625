"""Print the tables of docs/plan.md."""

from __future__ import annotations

from contralign.bench.plan.report import report

if __name__ == "__main__":
    print(report())
