"""Notes of what was left out."""

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.skipped_records import SkippedInBatches, SkippedRecords


def fault(record, reason="bad_json"):
    return BadRecord(reason, "why", record)


def test_readers_add_up_and_a_record_that_two_met_is_named_once(tmp_path):
    notes = SkippedRecords(tmp_path)
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
    notes = SkippedRecords(tmp_path)
    reader = notes.reader(0)
    reader.count()
    reader.add(fault("a:1"))
    assert str(SkippedRecords(tmp_path).report()) == "1 of 2 records; skipped: bad_json 1"
    reader.close()
    with (tmp_path / "00000.jsonl").open("a") as lines:
        lines.write('\n["bad_json", "broken o')
    again = notes.reader(0)
    again.add(fault("a:2"))
    again.close()
    assert str(notes.report()) == "0 of 2 records; skipped: bad_json 2"


def test_no_notes_are_no_records():
    assert SkippedRecords().report().total == 0


def test_a_record_that_was_given_is_not_counted_again_when_its_batch_finds_it_bad(tmp_path):
    notes = SkippedRecords(tmp_path)
    for _ in range(2):  # the second is a run that was resumed and has to pass over it
        reader = notes.reader(0)
        reader.count()
        reader.count()
        reader.add(fault("a:2", "corrupt_picture"), given=True)
        reader.close()
        assert str(notes.report()) == "1 of 2 records; skipped: corrupt_picture 1"


def test_a_batch_is_noted_by_whichever_process_makes_it_and_a_record_once(tmp_path):
    notes = SkippedRecords(tmp_path)
    ranks = [SkippedInBatches(notes, rank) for rank in (0, 1)]
    for note_skipped in (*ranks, ranks[0]):
        note_skipped(fault("a:1", "no_label_left"))
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["00000.jsonl", "00001.jsonl"]
    assert notes.report().counts == {"no_label_left": 1}
