"""The tables of docs/results.md, from the committed results of ablations.

    python benchmarks/ablation_tables.py noise rivals     # print: benchmarks/results/ablate/noise/results.parquet …
    python benchmarks/ablation_tables.py --write          # put them all into docs/results.md

A table stands in the page between `<!-- table: noise -->` and `<!-- end of table -->`; those of `delta_table.py` for
one arm stand behind `<!-- table: delta_table mle -->`.

One row a point of the grid and arm: means over seeds, and for the first metrics the differences to every reference at
equal seed with their t interval (95 %). Tests and bootstrap intervals stand in the `tables.md` of an ablation.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import delta_table

from contralign.ablation.settings import ARM, Metric
from contralign.ablation.summary.comparison import Comparison, Summary, name_of, summaries
from contralign.ablation.summary.results import Results, read_results

RESULTS = Path(__file__).with_name("results") / "ablate"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
PLACE = re.compile(r"(<!-- table: (\w+)(?: (\w+))? -->).*?(<!-- end of table -->)", re.DOTALL)
COMPARED = 2
"""The first metrics are shown with their differences, the others as means alone."""


def table(results: Results) -> str:
    """All metrics side by side, in Markdown."""
    metrics = results.ablation.metrics
    references = [name_of(reference) for reference in results.ablation.references]
    heads = [*results.ablation.grid, ARM, "seeds"]
    for number, metric in enumerate(metrics):
        heads.append(f"{metric.title}{_unit(metric)}")
        heads += [f"− {reference} (95 %)" for reference in references] if number < COMPARED else []
    lines = [_line(heads), _line(["---"] * len(heads))]
    by_metric = [summaries(results, metric) for metric in metrics]
    for row in zip(*by_metric, strict=True):
        lines.append(_line(_cells(results, row)))
    return "\n".join(lines) + "\n"


def _cells(results: Results, row: tuple[Summary, ...]) -> list[str]:
    labels = [row[0].row[axis] for axis in (*results.ablation.grid, ARM)]
    cells = [*labels, str(row[0].mean.n)]
    for number, summary in enumerate(row):
        cells.append(_number(summary.mean.mean, summary.metric))
        if number < COMPARED:
            cells += [_difference(comparison, summary.metric) for comparison in summary.comparisons]
    return cells


def _difference(one: Comparison | None, metric: Metric) -> str:
    if one is None:
        return ""
    found = one.difference
    words = _number(found.mean, metric, signed=True)
    if found.low is None or found.high is None:
        return words
    interval = f"({_number(found.low, metric, signed=True)} to {_number(found.high, metric, signed=True)})"
    clear = found.low > 0 or found.high < 0
    return f"**{words}** {interval}" if clear else f"{words} {interval}"


def _number(value: float | None, metric: Metric, signed: bool = False) -> str:
    if value is None:
        return ""
    scaled, digits = (100 * value, 1) if metric.unit == "%" else (value, 3)
    return f"{scaled:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _unit(metric: Metric) -> str:
    return f", {metric.unit}" if metric.unit else ""


def _line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def with_tables(page: str) -> str:
    """The page with every table it asks for, made from the committed results."""

    def drawn(found: re.Match[str]) -> str:
        folder, arm = RESULTS / found[2], found[3]
        if arm is None:
            made = table(read_results(folder / "results.parquet"))
        else:
            made = delta_table.tables(
                [line for line in delta_table.read_csv(folder / "delta.csv") if line["arm"] == arm]
            )
        return f"{found[1]}\n\n{made}\n{found[4]}"

    return PLACE.sub(drawn, page)


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name in sys.argv[1:]:
        path = Path(name) if name.endswith(".parquet") else RESULTS / name / "results.parquet"
        print(f"**{name}**\n\n{table(read_results(path))}")


if __name__ == "__main__":
    main()
