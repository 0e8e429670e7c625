import json

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.record_files import read_records


def test_records_of_a_json_list_are_named_by_index(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"x": 1}, 2]))
    assert list(read_records(tmp_path / "a.json")) == [("a.json[0]", {"x": 1}), ("a.json[1]", 2)]


def test_records_of_jsonl_are_named_by_line_and_a_broken_one_keeps_its_place(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n\n{oops\n{"x": 2}')
    names, records = zip(*read_records(tmp_path / "a.jsonl"), strict=True)
    assert names == ("a.jsonl:1", "a.jsonl:3", "a.jsonl:4")
    assert records[0] == {"x": 1} and isinstance(records[1], BadRecord) and records[2] == {"x": 2}


def test_a_line_separator_inside_of_a_text_does_not_break_a_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": "a\u2028b"}\n', encoding="utf-8")
    assert [record for _, record in read_records(tmp_path / "a.jsonl")] == [{"x": "a\u2028b"}]
