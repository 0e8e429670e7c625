from dataclasses import replace

import pyarrow.parquet as pq
from PIL import Image
from worlds.small_ablations import made_results

from contralign.ablation.summary.report import machine_words, plots_of, write_report

NUMBERS = {
    ("0", "mle"): [0.50, 0.60],
    ("0", "cal"): [0.52, 0.63],
    ("0.1", "mle"): [0.4, 0.5],
    ("0.1", "cal"): [0.45, 0.5],
}


def test_everything_is_written_and_said_where(tmp_path):
    results = made_results(NUMBERS, label="visual", unit="%")
    written = write_report(tmp_path / "out", results, "contralign ablate noise.yaml", missing=3)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "results.parquet",
        "comparisons.parquet",
        "tables.md",
        "plots/look.right.png",
        "plots/look.right-minus-mle.png",
    ]
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "`contralign ablate noise.yaml`" in text
    assert "**3 cells have no result yet.**" in text
    assert "8 results, seeds 0, 1; cpu, made up, 2 cores, 1 torch thread(s) a process; commit c0ffee." in text
    assert pq.read_table(written[1]).num_rows == 4
    for path in written[3:]:
        with Image.open(path) as picture:
            assert picture.size[0] > 500


def test_every_processor_is_named_and_one_that_was_not_recorded(tmp_path):
    results = made_results(NUMBERS)
    machines = [{"processor": "another"}, {}, *(one.machine for one in results.measured[2:])]
    measured = [replace(one, machine=machine) for one, machine in zip(results.measured, machines, strict=True)]
    words = machine_words(replace(results, measured=tuple(measured)))
    assert words.startswith("cpu, another or made up or processor unknown, 2 cores")


def test_plots_of_an_older_report_go(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "old.png").write_text("x")
    write_report(tmp_path, made_results(NUMBERS), "x")
    assert not (tmp_path / "plots" / "old.png").exists()


def test_plots_hold_the_numbers_of_the_tables_in_the_unit():
    (_, means), (_, differences) = plots_of(made_results(NUMBERS, unit="%"))
    assert means.axis == "noise"
    assert [mark.label for mark in means.lines["cal"]] == ["0", "0.1"]
    assert round(means.lines["cal"][0].value, 6) == 57.5
    assert differences.zero
    assert differences.lines["mle"] == []
    assert [round(dot, 6) for dot in differences.lines["cal"][0].dots] == [2.0, 3.0]
    assert means.lines["cal"][0].low < 57.5 < means.lines["cal"][0].high


def test_without_a_grid_plots_run_along_the_arms():
    means = dict(plots_of(made_results({("mle",): [1.0, 2.0], ("cal",): [2.0, 3.0]}, axes=())))["look.right"]
    assert means.axis == "arm"
    assert [mark.label for marks in means.lines.values() for mark in marks] == ["mle", "cal"]


def test_one_seed_is_drawn_without_intervals(tmp_path):
    results = made_results({row: values[:1] for row, values in NUMBERS.items()})
    assert len(write_report(tmp_path, results, "x")) == 5


def test_what_could_not_be_measured_is_not_drawn(tmp_path):
    results = made_results({("0", "mle"): [None], ("0", "cal"): [None]})
    assert list(plots_of(results)) == []
    assert "| none |" in (write_report(tmp_path, results, "x")[2]).read_text()
