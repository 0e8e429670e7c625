"""A preview counts all records and looks at some."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from worlds.small_recipes import write_records

from contralign.data.records.data_preview import preview_data


def test_all_records_are_counted_and_the_sound_ones_are_samples(tmp_path):
    seen = preview_data(write_records(tmp_path, 7), tmp_path)
    assert (seen.num_records, seen.num_checked, seen.bad) == (7, 7, ())
    assert [sample.id for sample in seen.samples] == [f"r{number}" for number in range(7)]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 37, 64])
def test_no_more_than_wanted_are_looked_at_and_they_are_spread(tmp_path, count):
    seen = preview_data(write_records(tmp_path, count), tmp_path, most=10)
    places = [int(sample.id[1:]) for sample in seen.samples]
    assert seen.num_records == count
    assert min(count, 5) <= len(places) <= 10
    assert places[0] == 0 and places[-1] >= count * 3 // 5 - 1
    assert len({after - before for before, after in pairwise(places)}) <= 1


def test_bad_records_are_named(tmp_path):
    path = write_records(tmp_path, 4)
    records = json.loads(path.read_text())
    records[2]["image"] = "gone.png"
    path.write_text(json.dumps(records))
    (fault,) = preview_data(path, tmp_path).bad
    assert fault.reason == "missing_picture" and fault.record == "records.json[2]"


def test_lines_that_are_no_json_are_bad_and_counted(tmp_path):
    path = tmp_path / "lines.jsonl"
    good = {"conversations": [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]}
    path.write_text(json.dumps(good) + "\n{broken\n")
    seen = preview_data(path)
    assert seen.num_records == 2 and [fault.reason for fault in seen.bad] == ["bad_json"]
