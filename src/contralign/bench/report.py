"""What a benchmark found: as JSON, and as a table with the lines that say what it was taken on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from contralign.bench.machine import machine_line
from contralign.bench.measure import BASELINE, Measurement, Spread, spread
from contralign.bench.profile import PartTime
from contralign.bench.shapes import NAMED_SHAPES, Shape

FUSED = "mle_fused"
_MEGABYTE = 1e6


def as_record(
    shape: Shape,
    measurement: Measurement,
    *,
    machine: Mapping[str, Any],
    command: str,
    profile: Sequence[PartTime] = (),
) -> dict[str, Any]:
    """A benchmark ready for JSON.

    Returns:
        A mapping for every mode: `time_ratio` (median), `time_ratio_min`, `time_ratio_max` to plain MLE in the same
        round; `seconds` (median), `seconds_min`, `seconds_max`; with `mle_fused` in the run `over_mle_fused` and its
        range; with memory `memory_ratio` (of totals), `memory_bytes` (total), `memory_parameters_bytes`,
        `memory_step_bytes`. Beside them `floor` (see `Shape.floor`), `rounds`, `shape`, `machine`, `command` and,
        where it was asked for, `profile`.
    """
    modes = {mode: _mode_record(mode, measurement) for mode in measurement.seconds}
    record: dict[str, Any] = {
        **modes,
        "floor": shape.floor,
        "rounds": len(measurement.seconds[BASELINE]),
        "shape": asdict(shape),
        "machine": dict(machine),
        "command": command,
    }
    if profile:
        record["profile"] = [asdict(part) for part in profile]
    return record


def _mode_record(mode: str, measurement: Measurement) -> dict[str, float]:
    record = _range("time_ratio", measurement.ratio(mode)) | _range("seconds", spread(measurement.seconds[mode]))
    if FUSED in measurement.seconds:
        record |= _range("over_mle_fused", measurement.ratio(mode, FUSED))
    if mode in measurement.memory:
        peak = measurement.memory[mode]
        record |= {
            "memory_ratio": peak.total / measurement.memory[BASELINE].total,
            "memory_bytes": peak.total,
            "memory_parameters_bytes": peak.parameters,
            "memory_step_bytes": peak.step,
        }
    return record


def _range(name: str, found: Spread) -> dict[str, float]:
    return {name: found.median, f"{name}_min": found.low, f"{name}_max": found.high}


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as `--json` does."""
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def mode_table(record: Mapping[str, Any], modes: Sequence[str]) -> Table:
    """The modes, a row each; ratios with their range. It fits into 80 columns."""
    memory = "memory_bytes" in record[BASELINE]
    columns = ["seconds", "time ratio", "over\nmle_fused"] + ["peak\nMB", "step\nMB", "memory\nratio"] * memory
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for mode in modes:
        row = record[mode]
        ratio = f"{row['time_ratio']:.3f} [{row['time_ratio_min']:.2f}, {row['time_ratio_max']:.2f}]"
        cells = [f"{row['seconds']:.3g}", ratio]
        cells.append(f"{row['over_mle_fused']:.3f}" if "over_mle_fused" in row else "")
        if memory:
            cells += [f"{row[name] / _MEGABYTE:.0f}" for name in ("memory_bytes", "memory_step_bytes")]
            cells.append(f"{row['memory_ratio']:.3f}")
        table.add_row(mode, *map(escape, cells))
    return table


def notes(record: Mapping[str, Any]) -> Iterator[str]:
    """What has to be known to read the table, a line each."""
    shape = Shape(**record["shape"])
    yield shape.describe()
    if shape.model in NAMED_SHAPES:
        yield (
            "random weights; a language model scaled to what a 2-core machine can run unless its sizes were given; "
            "the vision tower is tiny and frozen, and runs in every mode"
        )
    yield machine_line(record["machine"])
    yield (
        f"time ratio: to plain Hugging Face MLE in the same round, median [min, max] of {record['rounds']} rounds; "
        "no optimizer step in any mode, which makes every ratio harsher"
    )
    if "memory_bytes" in record[BASELINE]:
        parameters = record[BASELINE]["memory_parameters_bytes"] / _MEGABYTE
        yield (
            f"peak MB: {parameters:.0f} of parameters and buffers, which stand before the step, and what the step "
            "adds, gradients among it; the ratio is of the sums"
        )
    passes = 4 if shape.checkpointing else 3
    yield (
        f"floor: +{record['floor']:.3f} over mle_fused is what a second pass over all text costs: text / ({passes} x "
        "all tokens); less where it leaves the common prefix out"
    )


def profile_table(parts: Sequence[PartTime]) -> Table:
    """Where the time of a step goes."""
    table = Table("part of the cal step", box=SIMPLE_HEAD)
    for column in ("ms", "share"):
        table.add_column(column, justify="right")
    for part in parts:
        if part.milliseconds is None or part.share is None:
            table.add_row(part.name, "not marked", "")
        else:
            table.add_row(part.name, f"{part.milliseconds:.1f}", f"{100 * part.share:.1f} %")
    return table
