"""Records of tar archives: whole, unsafe, damaged and cut off."""

import io
import json
import tarfile

import pytest
from worlds.small_streams import png, record, tar_members, write_tar

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import open_image
from contralign.data.records.raw_record import streamed_sample
from contralign.data.streams.tar_shard import tar_records


def found(path):
    """Ids of good records, and (reason, name) of the others."""
    return [
        (each.reason, each.record) if isinstance(each, BadRecord) else each.read()["id"] for each in tar_records(path)
    ]


def test_records_come_in_the_order_of_the_archive_with_their_pictures(tmp_path):
    path = write_tar(tmp_path / "s.tar", tar_members([3, 1, 2]))
    samples = [streamed_sample(raw, None, "s.tar") for raw in tar_records(path)]
    assert [sample.id for sample in samples] == ["r3", "r1", "r2"]
    assert [open_image(sample.pictures[0]).getpixel((0, 0))[0] for sample in samples] == [3, 1, 2]


def test_keys_hold_folders_and_stop_at_the_first_dot(tmp_path):
    several = {**record(0), "images": ["a", "b"]}
    several["conversations"][0]["value"] = "<image> or <image>?"
    members = [
        ("./part/one.json", json.dumps(several).encode()),
        ("./part/one.0.png", png(5)),
        ("./part/one.1.PNG", png(6)),
        ("other/one.json", json.dumps(record(1)).encode()),
    ]
    raws = list(tar_records(write_tar(tmp_path / "s.tar", members)))
    assert [raw.name for raw in raws] == ["s.tar:part/one", "s.tar:other/one"]
    sample = streamed_sample(raws[0], None, "s.tar")
    assert [open_image(picture).getpixel((0, 0))[0] for picture in sample.pictures] == [5, 6]


def test_pictures_that_the_text_does_not_name_are_its_pictures(tmp_path):
    chat = {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "which?"}]},
            {"role": "assistant", "content": "this"},
        ]
    }
    path = write_tar(tmp_path / "s.tar", [("a.png", png(9)), ("a.json", json.dumps(chat).encode())])
    sample = streamed_sample(next(tar_records(path)), None, "s.tar")
    assert open_image(sample.pictures[0]).getpixel((0, 0)) == (9, 40, 90)
    assert sample.id == "s.tar:a"


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json"])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path, name):
    path = write_tar(tmp_path / "s.tar", [(name, json.dumps(record(7)).encode()), *tar_members([1])])
    assert found(path) == [("unsafe_member", f"s.tar:{name}"), "r1"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(tmp_path, kind):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
        for name, content in tar_members([1]):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert found(path) == [("wrong_member", "s.tar:a.json"), "r1"]


def test_folders_are_passed_over(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        folder = tarfile.TarInfo("part")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        content = json.dumps(record(1)).encode()
        member = tarfile.TarInfo("part/1.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert found(path) == ["r1"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.png", png(1))], "missing_key"),
        ([("a.json", b"{}"), ("a.json", b"{}")], "ambiguous"),
        ([("a.json", b"{}"), ("a.txt", b"words")], "wrong_member"),
        ([("a.json", b"{}"), ("a.exe.dll", b"words")], "wrong_member"),
        ([(".hidden", b"words")], "wrong_member"),
    ],
)
def test_members_that_make_no_record_are_named_and_the_next_is_read(tmp_path, members, reason):
    path = write_tar(tmp_path / "s.tar", [*members, *tar_members([5])])
    first, second = found(path)
    assert first[0] == reason
    assert second == "r5"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"no json", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (json.dumps(record(1, "1.png")).encode(), "picture_count"),
        (b"[1]", "wrong_type"),
        (b"\xff\xfe", "bad_json"),
    ],
)
def test_a_member_that_is_no_record_is_a_bad_record(tmp_path, text, reason):
    (raw,) = tar_records(write_tar(tmp_path / "s.tar", [("a.json", text)]))
    with pytest.raises(BadRecord) as refused:
        streamed_sample(raw, None, "s.tar")
    assert (refused.value.reason, refused.value.record) == (reason, "s.tar:a")


def test_a_corrupt_picture_is_found_when_it_is_opened(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("a.json", json.dumps(record(1, "x")).encode()), ("a.png", b"no picture")])
    sample = streamed_sample(next(tar_records(path)), None, "s.tar")
    with pytest.raises(BadRecord, match="corrupt_picture"):
        open_image(sample.pictures[0])


def test_wherever_an_archive_is_cut_off_whole_records_stay_and_one_fault_says_so(tmp_path):
    path = write_tar(tmp_path / "s.tar", tar_members([0, 1, 2]))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        ends = [member.offset_data + member.size for member in archive.getmembers()][1::2]
    for cut in range(1, ends[-1] + 1, 97):
        path.write_bytes(whole[:cut])
        *good, fault = found(path)
        assert fault[0] == "cut_off", cut
        complete = sum(end <= cut for end in ends)
        assert good in (["r0", "r1", "r2"][:complete], ["r0", "r1", "r2"][: max(complete - 1, 0)]), cut


def test_a_damaged_header_loses_the_rest_and_says_so(tmp_path):
    path = write_tar(tmp_path / "s.tar", tar_members([0, 1, 2]))
    with tarfile.open(path) as archive:
        third = archive.getmembers()[4].offset
    damaged = bytearray(path.read_bytes())
    damaged[third : third + 100] = b"\xff" * 100
    path.write_bytes(bytes(damaged))
    assert found(path) == ["r0", ("cut_off", "s.tar:00001")]


def test_what_is_no_archive_is_one_fault(tmp_path):
    path = tmp_path / "s.tar"
    path.write_bytes(b"words " * 500)
    assert found(path) == [("cut_off", "s.tar")]
    path.write_bytes(b"")
    assert found(path) == [("cut_off", "s.tar")]
    path.unlink()
    assert found(path) == [("unreadable_shard", "s.tar")]
