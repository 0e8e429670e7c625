"""Records before anyone looked into them: read late, and their pictures later still."""

import json

import pytest
from worlds.small_streams import png, record

from contralign.data.records.archive_member import ArchiveMember
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.images import LazyImage
from contralign.data.records.messages import open_image
from contralign.data.records.raw_record import JsonLine, TableRow, TarRecord, parsed, streamed_sample


def packed(folder, name, content):
    (folder / name).write_bytes(b"before" + content + b"behind")
    return ArchiveMember(folder / name, 6, len(content), name)


def test_a_sample_has_its_pictures_deferred_and_its_fault_named(tmp_path):
    sample = streamed_sample(JsonLine("a.jsonl:1", json.dumps(record(0, "x.png")).encode()), tmp_path, "a.jsonl")
    assert isinstance(sample.pictures[0], LazyImage)
    assert sample.source == "a.jsonl"
    with pytest.raises(BadRecord, match=r"^a\.jsonl:2: this is no JSON"):
        streamed_sample(JsonLine("a.jsonl:2", b"{"), tmp_path, "a.jsonl")


def test_a_row_with_several_encoded_pictures_needs_no_image_root():
    row = record(0) | {"images": [{"bytes": png(3), "path": None}, {"bytes": png(4), "path": None}]}
    row["conversations"][0]["value"] = "<image> or <image>?"
    sample = streamed_sample(TableRow("a[0]", row), None, "a")
    assert [open_image(picture).getpixel((0, 0))[0] for picture in sample.pictures] == [3, 4]


def test_a_row_that_names_a_file_is_read_under_the_image_root_only(tmp_path):
    (tmp_path / "x.png").write_bytes(png(5))
    row = record(0, {"bytes": None, "path": "x.png"})
    sample = streamed_sample(TableRow("a[0]", row), tmp_path, "a")
    assert open_image(sample.pictures[0]).getpixel((0, 0))[0] == 5
    with pytest.raises(BadRecord, match="set image_root"):
        streamed_sample(TableRow("a[0]", row), None, "a")
    outside = streamed_sample(TableRow("a[1]", record(0, {"bytes": None, "path": "/etc/passwd"})), tmp_path, "a")
    with pytest.raises(BadRecord, match="absolute_path"):
        open_image(outside.pictures[0])


def test_bytes_that_are_no_bytes_are_found_when_they_are_opened():
    sample = streamed_sample(TableRow("a[0]", record(0, {"bytes": "text", "path": None})), None, "a")
    with pytest.raises(BadRecord, match="picture bytes of type str; wanted a file name"):
        open_image(sample.pictures[0])


@pytest.mark.parametrize(
    ("held", "count", "reason"),
    [
        ({"image": "x"}, 2, "picture_count"),
        ({"images": ["x", "y"]}, 1, "picture_count"),
        ({"image": "x", "images": ["y"]}, 1, "ambiguous"),
    ],
)
def test_a_packed_record_that_counts_its_pictures_otherwise_is_refused(tmp_path, held, count, reason):
    text = packed(tmp_path, "a.json", json.dumps(record(0) | held).encode())
    pictures = tuple(packed(tmp_path, f"{number}.png", png(number)) for number in range(count))
    with pytest.raises(BadRecord) as refused:
        TarRecord("s.tar:a", text, pictures).read()
    assert refused.value.reason == reason


def test_a_packed_record_of_text_alone_is_what_its_json_says(tmp_path):
    text = packed(tmp_path, "a.json", json.dumps(record(0)).encode())
    assert TarRecord("s.tar:a", text, ()).read() == record(0)


def test_an_archive_that_is_gone_or_shorter_is_a_bad_record(tmp_path):
    text = packed(tmp_path, "a.json", json.dumps(record(0)).encode())
    text.path.write_bytes(b"before{")
    with pytest.raises(BadRecord, match="cut_off"):
        TarRecord("s.tar:a", text, ()).read()
    text.path.unlink()
    with pytest.raises(BadRecord, match="unreadable_shard"):
        TarRecord("s.tar:a", text, ()).read()


def test_a_picture_of_an_archive_that_is_gone_or_shorter_is_a_bad_record(tmp_path):
    picture = LazyImage(packed(tmp_path, "a.png", png(1)))
    assert open_image(picture).size == (8, 8)
    picture.value.path.write_bytes(b"before")
    with pytest.raises(BadRecord, match="cut_off"):
        open_image(picture)
    picture.value.path.unlink()
    with pytest.raises(BadRecord, match="missing_picture"):
        open_image(picture)


def test_json_of_absurd_size_is_refused(monkeypatch):
    monkeypatch.setattr("contralign.data.records.raw_record._MAX_JSON_BYTES", 10)
    with pytest.raises(BadRecord, match="11 bytes of JSON"):
        parsed(b'"123456789"')
