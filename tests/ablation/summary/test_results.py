from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds.small_ablations import made_directory, made_results

from contralign.ablation.directory import write_json
from contralign.ablation.summary.results import collect, read_results, value_at, write_results
from contralign.recipe.schema import RecipeError

RESULTS = {"look": {"right": {"value": 0.5, "n": 3}, "loss": 2, "name": "x", "none": {"value": None, "n": 0}}}


def finish(directory, one, right, finished="2026-01-01", **more):
    record = {
        "results": {"look": {"right": {"value": right}, "loss": 1 - right}},
        "training": {"stage": "last", "steps": 4, "seconds": 2.0, "threads": 1},
        "environment": {"git": {"commit": "c0ffee", "changed": True}, "versions": {}},
        "finished": finished,
        **more,
    }
    write_json(directory.cells / f"{one.key}.json", record)


@pytest.mark.parametrize(("path", "value"), [("look.right", 0.5), ("look.loss", 2.0), ("look.none", None)])
def test_a_metric_is_a_number_or_the_value_of_an_estimate(path, value):
    assert value_at(RESULTS, path) == value


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("look.rihgt", "the results have no 'rihgt' there; did you mean 'right'"),
        ("look.loss.deeper", "have no 'deeper' there; known: none"),
        ("look.name", "a number was wanted, the results have str there"),
        ("look", "a number was wanted, the results have dict there"),
    ],
)
def test_a_metric_that_is_not_there_is_named(path, message):
    with pytest.raises(RecipeError, match=message):
        value_at(RESULTS, path)


def test_finished_cells_are_collected_in_the_order_of_the_grid(tmp_path):
    directory, ablation, planned = made_directory(tmp_path)
    for number, one in enumerate(reversed(planned[:-1])):
        finish(directory, one, number / 10)
    results = collect(ablation, planned, directory)
    assert results.rows == [
        {"noise": "0", "arm": "mle"},
        {"noise": "0", "arm": "cal"},
        {"noise": "0.5", "arm": "mle"},
        {"noise": "0.5", "arm": "cal"},
    ]
    assert results.by_seed({"noise": "0", "arm": "mle"}, "look.right") == {0: 0.6, 1: 0.2}
    assert results.by_seed({"noise": "0.5", "arm": "cal"}, "look.right") == {0: pytest.approx(0.3)}
    assert results.measured[0].commit == "c0ffee+"


def test_results_read_back_from_parquet_to_the_bit(tmp_path):
    results = made_results({("0", "mle"): [0.1, 1 / 3], ("0", "cal"): [0.2, None]}, label="right", unit="%")
    write_results(tmp_path / "results.parquet", results)
    assert read_results(tmp_path / "results.parquet") == results
    lines = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(lines) == 4
    first = {name: lines[1][name] for name in ("noise", "arm", "seed", "metric", "label", "value", "trained_steps")}
    assert first == {
        "noise": "0",
        "arm": "mle",
        "seed": 1,
        "metric": "look.right",
        "label": "right",
        "value": 1 / 3,
        "trained_steps": 10,
    }


def test_results_that_were_recorded_without_a_machine_read_as_unknown(tmp_path):
    path = tmp_path / "results.parquet"
    results = made_results({("0", "mle"): [0.1, 0.2]})
    mixed = replace(results, measured=(replace(results.measured[0], machine={}), results.measured[1]))
    write_results(path, mixed)
    assert pq.read_table(path)["machine"].to_pylist()[0] == "unknown"
    assert read_results(path) == mixed
    pq.write_table(pq.read_table(path).drop_columns("machine"), path)
    assert [one.machine for one in read_results(path).measured] == [{}, {}]


def test_a_cell_brings_its_machine_and_an_older_one_none(tmp_path):
    directory, ablation, planned = made_directory(tmp_path, grid={}, seeds=[0])
    finish(directory, planned[0], 0.5, machine={"processor": "a and b"})
    finish(directory, planned[1], 0.5)
    machines = [one.machine for one in collect(ablation, planned, directory).measured]
    assert machines == [{"processor": "a and b"}] * 2 + [{}] * 2


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of results"):
        read_results(tmp_path / "results.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="holds no results of an ablation"):
        read_results(tmp_path / "other.parquet")
