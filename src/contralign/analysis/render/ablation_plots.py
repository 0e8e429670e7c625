"""Numbers with intervals as PNG: one against a numeric axis as in Figure 3 of the paper, others as rows of points."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from contralign.analysis.render.plots import COLOURS

_STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False}
_TITLE_WIDTH = 84
DPI = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One number with its interval.

    Attributes:
        label: of its place on the axis; a number where the axis is numeric.
        value: the number.
        low: lower end of the interval; None where there is none.
        high: upper end.
        dots: what it is the mean of, one a seed.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkPlot:
    """Lines of marks over one axis.

    Attributes:
        title: what it shows.
        axis: name of the axis that the labels are on.
        quantity: what the values are, with their unit.
        lines: name -> its marks in order; one without marks keeps its colour from the others.
        zero: draw a line at 0: the values are differences.
    """

    title: str
    axis: str
    quantity: str
    lines: Mapping[str, Sequence[Mark]] = field(default_factory=dict)
    zero: bool = False


def write_plot(path: Path, plot: MarkPlot) -> None:
    """Draw a plot as PNG: lines over a numeric axis, or rows of points where labels are words.

    Raises:
        ValueError: a plot without a mark.
    """
    labels = list(dict.fromkeys(mark.label for marks in plot.lines.values() for mark in marks))
    if not labels:
        raise ValueError(f"{plot.title}: no number to draw")
    positions = _numbers(labels) if len(labels) > 1 else None
    with rc_context(_STYLE):
        height = 1.3 + 0.28 * len(labels) * max(len(plot.lines), 1) if positions is None else 3.4
        figure = Figure(figsize=(5.6, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if positions is None:
            _draw_rows(axes, plot, labels)
        else:
            _draw_lines(axes, plot, dict(zip(labels, positions, strict=True)))
        title = "\n".join(textwrap.wrap(plot.title, _TITLE_WIDTH, max_lines=2, placeholder=" …"))
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=9)
        if len(plot.lines) > 1:
            figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(path, dpi=DPI, metadata={"Software": "contralign"})


def _draw_lines(axes: Axes, plot: MarkPlot, positions: Mapping[str, float]) -> None:
    spread = (max(positions.values()) - min(positions.values())) * 0.016
    for name, marks, number, colour in _coloured(plot):
        shift = spread * (number - (len(plot.lines) - 1) / 2)
        places = [positions[mark.label] + shift for mark in marks]
        axes.plot(places, [mark.value for mark in marks], color=colour, linewidth=1.4, marker="o", ms=4, label=name)
        for place, mark in zip(places, marks, strict=True):
            if mark.low is not None and mark.high is not None:
                axes.vlines(place, mark.low, mark.high, color=colour, linewidth=1.4)
            axes.plot([place + spread / 2] * len(mark.dots), mark.dots, ".", color=colour, alpha=0.6, ms=5, mew=0)
    axes.set_xticks(list(positions.values()), list(positions))
    axes.set_xlabel(plot.axis)
    axes.set_ylabel(plot.quantity)
    if plot.zero:
        axes.axhline(0, color="black", linewidth=0.8)


def _draw_rows(axes: Axes, plot: MarkPlot, labels: Sequence[str]) -> None:
    count = max(len(plot.lines), 1)
    for name, marks, number, colour in _coloured(plot):
        shift = 0.7 * (number - (count - 1) / 2) / count
        rows = [labels.index(mark.label) + shift for mark in marks]
        axes.plot([mark.value for mark in marks], rows, "o", color=colour, ms=5, label=name)
        for row, mark in zip(rows, marks, strict=True):
            if mark.low is not None and mark.high is not None:
                axes.hlines(row, mark.low, mark.high, color=colour, linewidth=1.6)
            axes.plot(mark.dots, [row + 0.25 / count] * len(mark.dots), ".", color=colour, alpha=0.6, ms=5, mew=0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_ylabel(plot.axis)
    axes.set_xlabel(plot.quantity)
    if plot.zero:
        axes.axvline(0, color="black", linewidth=0.8)


def _coloured(plot: MarkPlot) -> Iterator[tuple[str, Sequence[Mark], int, str]]:
    """Name, marks, number and colour of every line that has marks."""
    for number, (name, marks) in enumerate(plot.lines.items()):
        if marks:
            yield name, marks, number, COLOURS[number % len(COLOURS)]


def _numbers(labels: Sequence[str]) -> list[float] | None:
    """The labels as finite numbers; None where one is a word."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return None
    return numbers if all(abs(number) < float("inf") for number in numbers) else None
