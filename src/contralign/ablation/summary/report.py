"""Everything an ablation writes about its results: parquet, Markdown, plots."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from contralign.ablation.settings import ARM, Metric, Point
from contralign.ablation.summary.comparison import Summary, alike_rows, comparison_lines, name_of, summaries
from contralign.ablation.summary.results import UNKNOWN, Results, write_results, write_table
from contralign.ablation.summary.tables import as_markdown, tables
from contralign.analysis.render.ablation_plots import Mark, MarkPlot, write_plot
from contralign.evaluation.metrics.paired import PairedDifference

HOW_TO_READ = """\
Intervals and p are over seeds. A difference is taken in pairs of equal seed, which share the start and the order of the
data: its interval is Student's t (a 95 % bootstrap interval over 5 seeds covers about 83 %), its p that of the paired t
test. p is not corrected for the number of comparisons. With n seeds a sign-flip p cannot be below 2/2ⁿ."""


def write_report(folder: Path, results: Results, command: str, missing: int = 0) -> list[Path]:
    """Write results.parquet, comparisons.parquet, tables.md and plots/*.png.

    Args:
        folder: of the ablation, or any other.
        results: at least one number.
        command: what a reader types to get the same.
        missing: cells without a result yet.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.parquet", results)
    write_table(folder / "comparisons.parquet", comparison_lines(results))
    (folder / "tables.md").write_text(markdown(results, command, missing), encoding="utf-8")
    plots = folder / "plots"
    shutil.rmtree(plots, ignore_errors=True)
    plots.mkdir()
    drawn = []
    for name, plot in plots_of(results):
        write_plot(plots / f"{name}.png", plot)
        drawn.append(plots / f"{name}.png")
    return [folder / "results.parquet", folder / "comparisons.parquet", folder / "tables.md", *drawn]


def markdown(results: Results, command: str, missing: int = 0) -> str:
    """All tables with the command, seeds and machine they come from."""
    ablation = results.ablation
    about = [
        f"## {ablation.name}",
        f"`{command}`",
        f"{len({one.key for one in results.measured})} results, seeds {', '.join(map(str, ablation.seeds))}; "
        f"{machine_words(results)}.",
    ]
    if missing:
        about.append(f"**{missing} cells have no result yet.**")
    about.append(HOW_TO_READ)
    return "\n\n".join([*about, *map(as_markdown, tables(results))])


def machine_words(results: Results) -> str:
    """Machine, versions, threads and commits in one line."""
    versions = results.machine.get("versions", {})
    threads = sorted({one.threads for one in results.measured})
    processors = sorted({one.machine.get("processor", f"processor {UNKNOWN}") for one in results.measured})
    commits = sorted({one.commit[:10] + ("+" if one.commit.endswith("+") else "") for one in results.measured})
    parts = [
        f"{results.machine.get('device', '?')}, {' or '.join(processors)}, {results.machine.get('cores', '?')} cores, "
        f"{' or '.join(map(str, threads))} torch thread(s) a process",
        ", ".join(f"{name} {versions[name]}" for name in ("contralign", "torch", "transformers") if name in versions),
        f"commit {', '.join(filter(None, commits)) or 'unknown'}",
    ]
    return "; ".join(filter(None, parts))


def plots_of(results: Results) -> Iterator[tuple[str, MarkPlot]]:
    """Name of the file and plot: for every metric its means, and its differences to every reference."""
    for metric in results.ablation.metrics:
        found = summaries_of_all_rows(results, metric)
        name = _file_name(metric.path)
        if any(summary.mean.mean is not None for summary in found):
            yield name, _means(results, metric, found)
        for place, reference in enumerate(results.ablation.references):
            if any(summary.comparisons[place] for summary in found):
                yield f"{name}-minus-{_file_name(name_of(reference))}", _differences(results, metric, found, place)


def summaries_of_all_rows(results: Results, metric: Metric) -> list[Summary]:
    """The summaries of tables, with what is shown once there put at every place of the axis again."""
    return [
        Summary(row=row, metric=metric, mean=summary.mean, comparisons=summary.comparisons)
        for summary, rows in zip(summaries(results, metric), alike_rows(results), strict=True)
        for row in rows
    ]


def _means(results: Results, metric: Metric, found: list[Summary]) -> MarkPlot:
    lines: dict[str, list[Mark]] = {}
    for summary in found:
        if summary.mean.mean is not None:
            dots = tuple(results.by_seed(summary.row, metric.path).values())
            mark = _mark(results, metric, summary.row, summary.mean, dots)
            lines.setdefault(_line_name(results, summary.row), []).append(mark)
    return MarkPlot(
        title=f"{metric.title}: mean over seeds, 95 %", axis=_axis(results), quantity=metric.quantity, lines=lines
    )


def _differences(results: Results, metric: Metric, found: list[Summary], place: int) -> MarkPlot:
    lines: dict[str, list[Mark]] = {_line_name(results, summary.row): [] for summary in found}
    for summary in found:
        comparison = summary.comparisons[place]
        if comparison is not None:
            dots = tuple(comparison.by_seed.values())
            mark = _mark(results, metric, summary.row, comparison.difference, dots)
            lines[_line_name(results, summary.row)].append(mark)
    name = name_of(results.ablation.references[place])
    unit = "points" if metric.unit == "%" else metric.unit
    return MarkPlot(
        title=f"{metric.title}: difference to {name} at equal seed, 95 %",
        axis=_axis(results),
        quantity=f"difference{f', {unit}' if unit else ''} ({metric.better} is better)",
        lines=lines,
        zero=True,
    )


def _mark(results: Results, metric: Metric, row: Point, found: PairedDifference, dots: tuple[float, ...]) -> Mark:
    scale = 100 if metric.unit == "%" else 1
    assert found.mean is not None
    return Mark(
        label=row[_axis(results)],
        value=scale * found.mean,
        low=None if found.low is None else scale * found.low,
        high=None if found.high is None else scale * found.high,
        dots=tuple(scale * dot for dot in dots),
    )


def _axis(results: Results) -> str:
    """The axis that plots run along: the first of the grid, or the arms where there is none."""
    return next(iter(results.ablation.grid), ARM)


def _line_name(results: Results, row: Point) -> str:
    """What a line of a plot is called: everything but its axis."""
    return ", ".join(label for axis, label in row.items() if axis != _axis(results)) or results.ablation.name


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
