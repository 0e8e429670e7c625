"""Notes of what a stream left out."""

from contralign.data.bad_record import BadRecord
from contralign.data.left_out import LeftOut


def fault(record, reason="bad_json"):
    return BadRecord(reason, "why", record)


def test_readers_add_up_and_a_record_that_two_met_is_named_once(tmp_path):
    notes = LeftOut(tmp_path)
    first, second = notes.reader(0), notes.reader(1)
    for _ in range(3):
        first.count()
    second.count()
    assert first.add(fault("a:1"))
    assert not first.add(fault("a:1"))
    assert second.add(fault("a:1"))
    assert second.add(fault("a:2", "no_turns"))
    first.close()
    second.close()
    report = notes.report()
    assert (report.total, report.counts) == (6, {"bad_json": 1, "no_turns": 1})
    assert [(bad.record, bad.message) for bad in report.bad] == [("a:1", "why"), ("a:2", "why")]


def test_notes_are_on_the_disk_before_a_reader_closes_and_outlive_it(tmp_path):
    notes = LeftOut(tmp_path)
    reader = notes.reader(0)
    reader.count()
    reader.add(fault("a:1"))
    assert str(LeftOut(tmp_path).report()) == "1 of 2 records; skipped: bad_json 1"
    reader.close()
    with (tmp_path / "00000.jsonl").open("a") as lines:
        lines.write('\n["bad_json", "broken o')
    again = notes.reader(0)
    again.add(fault("a:2"))
    again.close()
    assert str(notes.report()) == "0 of 2 records; skipped: bad_json 2"


def test_no_notes_are_no_records():
    assert LeftOut().report().total == 0
