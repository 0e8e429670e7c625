"""Plans as a table for the eye and as a dict for a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from contralign.bench.plan.predict import Plan

FITS = {True: "yes", False: "no", None: "?"}


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
    for heading in (
        "time\nratio",
        "operations\nratio",
        "s a\nstep",
        "h an\nepoch",
        "logits\nGiB",
        "state and\ninputs GiB",
        "fits",
    ):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        drawn.add_row(
            plan.mode,
            f"{plan.time_ratio:.3f}",
            f"{plan.flop_ratio:.3f}",
            f"{plan.step_seconds:.2f}",
            f"{plan.hours:.1f}",
            f"{plan.loss_gib:.2f}",
            f"{plan.state_gib + plan.inputs_gib:.1f}",
            FITS[plan.fits],
        )
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
