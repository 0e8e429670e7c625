"""The numbers of an ablation as one flat table: a line for every cell and metric, in parquet."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from contralign.ablation.ablation_file import dump_ablation
from contralign.ablation.directory import AblationDirectory
from contralign.ablation.plan import PlannedCell
from contralign.ablation.settings import ARM, NUMBERS, TRAINING, Ablation, Metric, Point
from contralign.nearest import nearest
from contralign.recipe.recipe import plain
from contralign.recipe.schema import RecipeError, from_mapping
from contralign.run.machine import Machine

METADATA = b"contralign_ablation"
UNKNOWN = "unknown"
"""In place of a machine record, for results that were recorded without one."""
STORED = {
    **{"metric": "path", "last_stage": "stage", "trained_steps": "steps", "trained_seconds": "seconds"},
    **{name: name for name in ("seed", "key", "value", "threads", "commit", "finished")},
}
"""Column of results.parquet -> field of `Measured` that it holds as it is."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric of one cell.

    Attributes:
        row: axis -> label, the arm among them.
        seed: of the cell.
        key: of the result; cells that do not differ have one.
        path: of the metric.
        value: the number; None where there was nothing to measure.
        stage: the last one.
        steps: optimizer steps of the last stage.
        seconds: what they took; see `contralign.run.steps.clock`.
        threads: of torch, in the process that trained.
        machine: record of the machine, or machines, that trained and evaluated; empty where it is unknown.
        commit: of contralign's checkout, with "+" where files differed from it; "" where it ran from none.
        finished: when, UTC.
    """

    row: Point
    seed: int
    key: str
    path: str
    value: float | None
    stage: str
    steps: int
    seconds: float
    threads: int
    machine: Machine
    commit: str
    finished: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """What tables, plots and checks read.

    Attributes:
        ablation: its settings; `metrics`, `grid` and `reference` say what to make of the numbers.
        measured: every number there is so far.
        machine: versions, platform and processor cores of the first cell.
    """

    ablation: Ablation
    measured: tuple[Measured, ...]
    machine: Mapping[str, Any]

    @property
    def rows(self) -> list[Point]:
        """Grid points × arms that have a number, in the order of the grid."""
        return list({tuple(one.row.items()): one.row for one in self.measured}.values())

    def by_seed(self, row: Point, path: str) -> dict[int, float]:
        """Seed -> value of one metric of one row."""
        return {
            one.seed: one.value
            for one in self.measured
            if one.row == row and one.path == path and one.value is not None
        }

    def keys(self, row: Point) -> dict[int, str]:
        """Seed -> key of the result."""
        return {one.seed: one.key for one in self.measured if one.row == row}


def collect(ablation: Ablation, planned: Sequence[PlannedCell], directory: AblationDirectory) -> Results:
    """The numbers of all finished cells, ordered by the grid, then seeds.

    Raises:
        RecipeError: a metric that is not among the results of a cell.
    """
    done = [one for one in planned if directory.state(one) == "done"]
    records = {one.key: directory.record(one.key) for one in done}
    measured = [
        _measure(one, records[one.key], metric)
        for one in sorted(done, key=lambda one: _grid_order(ablation, one))
        for metric in ablation.metrics
    ]
    machine = records[done[0].key]["environment"] if done else {}
    return Results(ablation=ablation, measured=tuple(measured), machine=machine)


def value_at(results: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted place of an arm's results, of an estimate its value; None where none was measured.

    Raises:
        RecipeError: no such place, or no number there.
    """
    found: Any = results
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            known = found if isinstance(found, Mapping) else ()
            raise RecipeError(f"metrics: {path}: the results have no {name!r} there; {nearest(name, known)}")
        found = found[name]
    if isinstance(found, Mapping) and "value" in found:
        found = found["value"]
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise RecipeError(f"metrics: {path}: a number was wanted, the results have {type(found).__name__} there")
    return float(found)


def write_results(path: Path, results: Results) -> None:
    """Write one line a number; the file also holds the ablation's settings and the machine."""
    axes = [*results.ablation.grid, ARM]
    units = {metric.path: metric for metric in results.ablation.metrics}
    lines = [
        {
            **{axis: one.row[axis] for axis in axes},
            **{column: getattr(one, name) for column, name in STORED.items()},
            "label": units[one.path].title,
            "unit": units[one.path].unit,
            "better": units[one.path].better,
            "machine": json.dumps(dict(one.machine), sort_keys=True) if one.machine else UNKNOWN,
        }
        for one in results.measured
    ]
    kinds = {"value": pa.float64(), "trained_seconds": pa.float64()}
    kinds |= dict.fromkeys(("seed", "trained_steps", "threads"), pa.int64())
    names = [*axes, *NUMBERS, *TRAINING]
    about = json.dumps({"ablation": dump_ablation(results.ablation), "machine": plain(dict(results.machine))})
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names], metadata={METADATA: about.encode()})
    _write_whole(path, pa.Table.from_pylist(lines, schema=schema))


def read_results(path: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of results")
    table = pq.read_table(path)
    about = (table.schema.metadata or {}).get(METADATA)
    if about is None:
        raise ValueError(f"{path} holds no results of an ablation: give a results.parquet that contralign ablate wrote")
    described = json.loads(about)
    ablation = from_mapping(Ablation, yaml.safe_load(described["ablation"]))
    measured = [
        Measured(
            row={axis: line[axis] for axis in (*ablation.grid, ARM)},
            machine={} if line.get("machine", UNKNOWN) == UNKNOWN else json.loads(line["machine"]),
            **{name: line[column] for column, name in STORED.items()},
        )
        for line in table.to_pylist()
    ]
    return Results(ablation=ablation, measured=tuple(measured), machine=described["machine"])


def write_table(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write plain lines as parquet."""
    _write_whole(path, pa.Table.from_pylist([dict(line) for line in lines]))


def _write_whole(path: Path, table: pa.Table) -> None:
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial)
    partial.replace(path)


def _measure(planned: PlannedCell, record: Mapping[str, Any], metric: Metric) -> Measured:
    training, git = record["training"], record["environment"]["git"]
    return Measured(
        row=planned.cell.row,
        seed=planned.cell.seed,
        key=planned.key,
        path=metric.path,
        value=value_at(record["results"], metric.path),
        stage=training["stage"],
        steps=training["steps"],
        seconds=training["seconds"],
        threads=training["threads"],
        machine=record.get("machine", {}),
        commit=git["commit"] + ("+" if git["changed"] else "") if git else "",
        finished=record["finished"],
    )


def _grid_order(ablation: Ablation, planned: PlannedCell) -> list[int]:
    """Place of the cell's labels in the file, the arms after them."""
    places = [list(axis.changes).index(planned.cell.point[name]) for name, axis in ablation.grid.items()]
    arms = list(planned.cell.plan.arms)
    return [*places, arms.index(planned.cell.arm), ablation.seeds.index(planned.cell.seed)]
