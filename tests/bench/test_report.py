"""What is written and printed."""

import io
import json

import pytest
from rich.console import Console

from contralign.bench.measure import Measurement
from contralign.bench.memory import PeakMemory
from contralign.bench.profile import PartTime
from contralign.bench.report import as_record, mode_table, notes, profile_table, write_json
from contralign.bench.shapes import named_shape

MACHINE = {
    "device": "cpu",
    "processor": "Some CPU",
    "cores": 2,
    "torch_threads": 1,
    "python": "3.11",
    "versions": {"torch": "2.13", "transformers": "5.23"},
}
PARTS = [
    PartTime(name="contrast pass", milliseconds=12.34, share=0.25),
    PartTime(name="backward", milliseconds=None, share=None),
]


def record(memory=True, modes=("mle", "mle_fused", "cal"), **shape):
    seconds = {"mle": [1.0, 2.0, 4.0], "mle_fused": [0.5, 1.0, 2.0], "cal": [0.6, 1.4, 2.4]}
    peaks = {"mle": (100, 900), "mle_fused": (100, 400), "cal": (100, 500)}
    return as_record(
        named_shape("tiny", **shape),
        Measurement(
            seconds={mode: seconds[mode] for mode in modes},
            memory={mode: PeakMemory(parameters=peaks[mode][0], step=peaks[mode][1]) for mode in modes if memory},
        ),
        machine=MACHINE,
        command="contralign bench --model tiny",
        profile=PARTS,
    )


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_a_mode_has_its_ratios_seconds_and_memory():
    cal = record()["cal"]
    assert (cal["time_ratio"], cal["time_ratio_min"], cal["time_ratio_max"]) == pytest.approx((0.6, 0.6, 0.7))
    assert (cal["seconds"], cal["seconds_min"], cal["seconds_max"]) == (1.4, 0.6, 2.4)
    assert cal["over_mle_fused"] == pytest.approx(1.2)
    assert (cal["memory_bytes"], cal["memory_parameters_bytes"], cal["memory_step_bytes"]) == (600, 100, 500)
    assert cal["memory_ratio"] == 0.6


def test_floor_shape_machine_and_command_stand_beside_them():
    made = record(checkpointing=True)
    assert made["floor"] == named_shape("tiny", checkpointing=True).floor
    assert made["shape"]["image_tokens"] == 16
    assert made["machine"] == MACHINE
    assert made["command"] == "contralign bench --model tiny"
    assert made["rounds"] == 3
    assert made["profile"][1] == {"name": "backward", "milliseconds": None, "share": None}


def test_what_was_not_measured_is_not_there():
    made = record(memory=False, modes=("mle", "cal"))
    assert not {"memory_ratio", "memory_bytes", "over_mle_fused"} & made["cal"].keys()
    assert "memory" not in printed(mode_table(made, ["mle", "cal"]))
    assert not any("peak MB" in line for line in notes(made))


def test_the_file_holds_the_record(tmp_path):
    made = record()
    write_json(tmp_path / "bench.json", made)
    assert json.loads((tmp_path / "bench.json").read_text()) == made


def test_the_table_fits_into_80_columns_with_every_number():
    lines = printed(mode_table(record(), ["mle", "mle_fused", "cal"])).splitlines()
    assert "…" not in "".join(lines)
    row = next(line for line in lines if line.split()[:1] == ["cal"])
    assert row.split() == ["cal", "1.4", "0.600", "[0.60,", "0.70]", "1.200", "0", "0", "0.600"]


def test_the_notes_say_what_the_numbers_were_taken_on():
    told = "\n".join(notes(record(checkpointing=True)))
    for said in (
        "tiny: hidden 128, 3 layers",
        "checkpointing on",
        "2-core machine",
        "Some CPU, 2 cores, torch threads 1",
        "median [min, max] of 3 rounds",
        "no optimizer step",
        "text / (4 x all tokens)",
        "vision tower is tiny and frozen",
    ):
        assert said in told


def test_a_part_without_a_mark_is_said_to_have_none():
    shown = printed(profile_table(PARTS))
    assert any(line.split() == ["contrast", "pass", "12.3", "25.0", "%"] for line in shown.splitlines())
    assert any(line.split() == ["backward", "not", "marked"] for line in shown.splitlines())
