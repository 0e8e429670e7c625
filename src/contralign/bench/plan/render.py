"""Plans as a table for the eye and as a dict for a file."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from contralign.bench.plan.predict import Plan

FITS = {True: "yes", False: "no", None: "?"}
COLUMNS: dict[str, Callable[[Plan], str]] = {
    "time\nratio": lambda plan: f"{plan.time_ratio:.3f}",
    "operations\nratio": lambda plan: f"{plan.flop_ratio:.3f}",
    "s a\nstep": lambda plan: f"{plan.step_seconds:.2f}",
    "h an\nepoch": lambda plan: f"{plan.hours:.1f}",
    "logits\nGiB": lambda plan: f"{plan.loss_gib:.2f}",
    "state and\ninputs GiB": lambda plan: f"{plan.state_gib + plan.inputs_gib:.1f}",
    "fits": lambda plan: FITS[plan.fits],
}


def table(plans: Sequence[Plan]) -> Table:
    """A row a plan.

    Raises:
        ValueError: no plans, or plans of different models.
    """
    first = _one_model(plans)
    title = f"{first.model} on {first.gpus} x {first.gpu}, {first.micro_batch} samples a GPU and micro-batch"
    caption = "predicted from counted operations and bytes; ratios to mle; see docs/plan.md"
    drawn = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("", no_wrap=True)
    for heading in COLUMNS:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        drawn.add_row(plan.mode, *(cell(plan) for cell in COLUMNS.values()))
    return drawn


def plan_dict(plans: Sequence[Plan]) -> dict[str, Any]:
    """Plans of one model by mode, with the `floor` of a CAL with two passes; ready for JSON.

    Raises:
        ValueError: no plans, or plans of different models.
    """
    floor = _one_model(plans).floor
    return {**{plan.mode: asdict(plan) for plan in plans}, "floor": floor}


def _one_model(plans: Sequence[Plan]) -> Plan:
    names = sorted({plan.model for plan in plans})
    if len(names) != 1:
        raise ValueError(f"plans of {', '.join(names) or 'nothing'}: wanted plans of one model")
    return plans[0]
