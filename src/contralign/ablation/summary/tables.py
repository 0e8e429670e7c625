"""Ablation results as tables of words, for Markdown and for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from contralign.ablation.settings import ARM, Metric, Point
from contralign.ablation.summary.comparison import Comparison, Cost, costs, name_of, summaries
from contralign.ablation.summary.results import Results


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table whose cells are words.

    Attributes:
        title: what it shows.
        columns: names.
        rows: as many words as there are columns.
        folded: of second rank: not for the terminal.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


def tables(results: Results) -> list[TextTable]:
    """For every metric its table; then what the bootstrap and the sign flips say, and what a step costs."""
    metrics = results.ablation.metrics
    found = [_metric_table(results, metric) for metric in metrics]
    found += [_second_opinions(results, metric) for metric in metrics]
    return [*found, _cost_table(results)]


def as_markdown(table: TextTable) -> str:
    """A Markdown table under its title."""
    lines = [f"### {table.title}", "", _line(table.columns), _line(["---"] * len(table.columns))]
    return "\n".join([*lines, *map(_line, table.rows)]) + "\n"


def for_terminal(table: TextTable) -> Table:
    """The table as rich draws it."""
    lines = Table(*map(escape, table.columns), title=escape(table.title), title_justify="left", box=SIMPLE_HEAD)
    for row in table.rows:
        lines.add_row(*map(escape, row))
    return lines


def _metric_table(results: Results, metric: Metric) -> TextTable:
    """Mean over seeds, and the difference to every reference, with t intervals."""
    references = [name_of(reference) for reference in results.ablation.references]
    rows = [
        (
            *_labels(results, summary.row),
            str(summary.mean.n),
            with_interval(summary.mean.mean, summary.mean.low, summary.mean.high, metric),
            *(words for one in summary.comparisons for words in _by_t(one, metric)),
        )
        for summary in summaries(results, metric)
    ]
    compared = [words for name in references for words in (f"− {name} (95 %)", "p")]
    return TextTable(
        title=f"{metric.quantity}: mean over seeds (95 %), {metric.better} is better",
        columns=(*_heads(results), "seeds", "mean (95 %)", *compared),
        rows=tuple(rows),
    )


def _second_opinions(results: Results, metric: Metric) -> TextTable:
    """The same differences by methods that do not take them to be normal."""
    references = [name_of(reference) for reference in results.ablation.references]
    rows = [
        (*_labels(results, summary.row), *(word for one in summary.comparisons for word in _by_resampling(one, metric)))
        for summary in summaries(results, metric)
    ]
    compared = [
        words for name in references for words in (f"− {name} (bootstrap 95 %)", "sign-flip p", "seeds better / worse")
    ]
    return TextTable(
        title=f"{metric.title}: the same differences by bootstrap over seeds and sign flips",
        columns=(*_heads(results), *compared),
        rows=tuple(rows),
        folded=True,
    )


def _cost_table(results: Results) -> TextTable:
    name = name_of(results.ablation.references[0])
    return TextTable(
        title="Cost of a step of the last stage: processor time where there is no accelerator",
        columns=(*_heads(results), "seeds", "seconds a step, median", f"× {name}, median (range over seeds)"),
        rows=tuple(_cost_row(results, cost) for cost in costs(results)),
    )


def _cost_row(results: Results, cost: Cost) -> tuple[str, ...]:
    ratio = "" if cost.ratio is None else f"{cost.ratio:.2f} ({cost.low:.2f} to {cost.high:.2f})"
    return (*_labels(results, cost.row), str(cost.n), f"{cost.seconds:.3f}", ratio)


def _by_t(one: Comparison | None, metric: Metric) -> tuple[str, str]:
    if one is None:
        return "", ""
    found = one.difference
    return with_interval(found.mean, found.low, found.high, metric, signed=True), p_words(found.p)


def _by_resampling(one: Comparison | None, metric: Metric) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    found = one.difference
    words = with_interval(found.mean, found.bootstrap_low, found.bootstrap_high, metric, signed=True)
    better, worse = one.better_seeds(metric)
    return words, p_words(found.sign_flip_p), f"{better} / {worse}"


def with_interval(
    value: float | None, low: float | None, high: float | None, metric: Metric, signed: bool = False
) -> str:
    """A number with its interval in the metric's unit: 92.1 (90.7 to 93.3); a lone seed has none.

    Args:
        value: None is a number that could not be measured.
        low: lower end; None where there is no interval.
        high: upper end.
        metric: its unit says how the number is written.
        signed: with a plus before what is above 0.
    """
    if value is None:
        return "none"
    if low is None or high is None:
        return f"{number(value, metric, signed)} (one seed: no interval)"
    return f"{number(value, metric, signed)} ({number(low, metric, signed)} to {number(high, metric, signed)})"


def number(value: float, metric: Metric, signed: bool = False) -> str:
    """A number as the metric's unit has it: shares as percentages with one decimal, others with three."""
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.1f}" if metric.unit == "%" else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def p_words(p: float | None) -> str:
    """A p with two digits that count."""
    if p is None:
        return ""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _heads(results: Results) -> tuple[str, ...]:
    return (*results.ablation.grid, ARM)


def _labels(results: Results, row: Point) -> tuple[str, ...]:
    return tuple(row[axis] for axis in _heads(results))


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"
