"""Training curves as SVG, readable on light and dark ground."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Event = Mapping[str, Any]

INK = "#7d8590"
COLOURS = ("#d9822b", "#3b82f6", "#2a9d6f", "#b45fc4", "#c94f4f", "#8c8c3e")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
    "svg.hashsalt": "contralign",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture of curves.

    Attributes:
        title: what it shows.
        svg: the file.
    """

    title: str
    svg: bytes


def training_curves(events: Sequence[Event]) -> list[Plot]:
    """One plot a stage: the plain loss of every arm, and beside it what the weights did where the stage logged it.

    The loss is `nll`, or `loss` in an arm without CAL, whose loss is the plain one.

    Args:
        events: lines of metrics.jsonl: arm, stage, step, and numbers by name.
    """
    stages = dict.fromkeys(str(event["stage"]) for event in events)
    plots = []
    for stage in stages:
        here = [event for event in events if str(event["stage"]) == stage]
        panels = [panel for panel, wanted in _PANELS if any(wanted in event for event in here)]
        if panels:
            plots.append(Plot(title=stage, svg=_svg(here, panels)))
    return plots


def _svg(events: Sequence[Event], panels: Sequence[Callable[[Axes, dict[str, list[Event]]], None]]) -> bytes:
    by_arm: dict[str, list[Event]] = {}
    for event in events:
        by_arm.setdefault(str(event["arm"]), []).append(event)
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.2 * len(panels), 2.1), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        for place, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), place)
            axes.patch.set_alpha(0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.2)
            axes.set_xlabel("step")
            panel(axes, by_arm)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize=7)
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()


def _loss(axes: Axes, arms: dict[str, list[Event]]) -> None:
    axes.set_title("plain loss, nats per token", loc="left")
    for number, (arm, events) in enumerate(arms.items()):
        points = [(event["step"], event.get("nll", event.get("loss"))) for event in events]
        _line(axes, [point for point in points if point[1] is not None], arm, number)


def _weights(axes: Axes, arms: dict[str, list[Event]]) -> None:
    axes.set_title("mean weight of a label token", loc="left")
    for number, (arm, events) in enumerate(arms.items()):
        _line(axes, [(event["step"], event["weight_mean"]) for event in events if "weight_mean" in event], arm, number)


def _quantiles(axes: Axes, arms: dict[str, list[Event]]) -> None:
    axes.set_title("Δ: median, middle half, 5 to 95 %", loc="left")
    for number, (arm, events) in enumerate(arms.items()):
        logged = [event for event in events if "delta_q50" in event]
        steps = [event["step"] for event in logged]
        for low, high, alpha in (("delta_q05", "delta_q95", 0.12), ("delta_q25", "delta_q75", 0.22)):
            if logged and all(low in event and high in event for event in logged):
                lows, highs = ([event[name] for event in logged] for name in (low, high))
                axes.fill_between(steps, lows, highs, color=_colour(number), alpha=alpha, linewidth=0)
        _line(axes, [(event["step"], event["delta_q50"]) for event in logged], arm, number)


def _line(axes: Axes, points: Sequence[tuple[float, float]], label: str, number: int) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=_colour(number), linewidth=1.3, label=label)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


_PANELS: tuple[tuple[Callable[[Axes, dict[str, list[Event]]], None], str], ...] = (
    (_loss, "loss"),
    (_weights, "weight_mean"),
    (_quantiles, "delta_q50"),
)
