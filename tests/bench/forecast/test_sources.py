"""What is said of data files before a run."""

from __future__ import annotations

import json

import pytest
from worlds.small_recipes import write_records

from contralign.bench.forecast.sources import inspect_sources
from contralign.recipe.data_settings import DataSettings


def looked_at(**settings):
    (found,) = inspect_sources(DataSettings(**settings))
    return found


def test_a_file_that_is_here_is_counted_and_looked_at(tmp_path):
    found = looked_at(train=(str(write_records(tmp_path, 5)),), image_root=(str(tmp_path),))
    assert (found.records, len(found.samples), found.problem) == (5, 5, None)
    assert found.found == "here; 5 looked at, 0 bad"


def test_bad_records_are_something_to_do(tmp_path):
    path = write_records(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"no picture")
    found = looked_at(train=(str(path),), image_root=(str(tmp_path),))
    assert found.problem is not None and found.problem.startswith(f"1 of 3 records of {path} are bad; first: ")
    assert "corrupt_picture" in found.problem


@pytest.mark.parametrize(
    ("name", "records"), [("blip_laion_cc_sbu_558k.json", 558_128), ("llava_v1_5_mix665k.json", 665_298)]
)
def test_a_published_file_that_is_not_here_has_its_published_number(name, records):
    found = looked_at(train=(f"somewhere/{name}",), image_root=("somewhere",))
    assert found.records == records and "as published" in found.found
    assert found.problem == f"somewhere/{name} is not here"


def test_an_unknown_file_that_is_not_here_has_no_number():
    found = looked_at(train=("own.json",))
    assert found.records is None and found.problem == "own.json is not here"


def test_a_file_that_does_not_parse_is_something_to_do(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps([{"id": 1}])[:-1])
    found = looked_at(train=(str(path),))
    assert found.records is None and found.problem is not None and "does not parse" in found.problem


def test_a_picture_folder_that_is_not_there_is_something_to_do(tmp_path):
    found = looked_at(train=(str(write_records(tmp_path)),), image_root=(str(tmp_path / "gone"),))
    assert found.problem == f"image_root {tmp_path / 'gone'} is no folder"


def test_built_in_sets_need_nothing():
    found = looked_at(train=("scenes:train",), settings={"scenes": {"count": 12}})
    assert (found.records, found.found, found.problem) == (12, "built in", None)


def test_a_stream_is_looked_at_and_not_counted(tmp_path):
    records = json.loads(write_records(tmp_path, 6).read_text())
    records[4]["conversations"] = []
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = looked_at(train=(str(path),), image_root=(str(tmp_path),), streaming=True, on_bad="skip")
    assert (found.records, len(found.samples), len(found.bad)) == (None, 5, 1)
    assert found.found == "1 shards, streamed; first 6 looked at, 1 bad"
    assert found.problem is not None and "many.jsonl:5" in found.problem


def test_a_stream_that_is_not_there_is_something_to_do():
    found = looked_at(train=("gone-{000..003}.tar",), streaming=True)
    assert found.problem is not None and "gone-000.tar" in found.problem
