"""Which files a source names, and the records in them."""

import json

import pytest
from worlds.small_streams import png, record, tar_members, write_arrow, write_jsonl, write_parquet, write_tar

from contralign.data.records.bad_record import BadRecord
from contralign.data.streams.shards import expand_braces, find_shards


def ids(shard):
    return [found.reason if isinstance(found, BadRecord) else found.read()["id"] for found in shard.records()]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
    ],
)
def test_braces_count_and_list(pattern, names):
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["s-{0..", "s-}", "s-{5..1}", "s-{}", "s-{a}", "{{0..1},b}"])
def test_braces_that_say_nothing_are_refused(pattern):
    with pytest.raises(ValueError, match=r"wanted|not opened"):
        expand_braces(pattern)


@pytest.mark.parametrize(
    "source", ["https://host/s-{0..1}.tar", "pipe:curl host/a.tar", "s3://bucket/a.tar", "gs://b/{0..1}.parquet"]
)
def test_addresses_and_pipes_are_refused_with_the_reason(source):
    with pytest.raises(ValueError, match="only files are streamed, since a resumed run"):
        find_shards(source, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.json", "write it as .jsonl"), ("a.tar.gz", "unpack it"), ("a.csv", r"wanted \.jsonl, \.tar")],
)
def test_files_that_cannot_be_streamed_are_refused(tmp_path, name, message):
    (tmp_path / name).write_text("[]")
    with pytest.raises(ValueError, match=message):
        find_shards(tmp_path / name, None)


def test_a_shard_that_is_missing_among_many_is_named_before_anything_is_read(tmp_path):
    write_tar(tmp_path / "s-0.tar", tar_members([0]))
    with pytest.raises(ValueError, match=r"s-1\.tar' does not exist"):
        find_shards(f"{tmp_path}/s-{{0..1}}.tar", None)
    with pytest.raises(ValueError, match="no file has such a name"):
        find_shards(tmp_path / "x-*.tar", None)


def test_a_pattern_names_its_files_in_order(tmp_path):
    for name in ("b", "a", "c"):
        write_jsonl(tmp_path / f"{name}.jsonl", [0])
    assert [shard.name for shard in find_shards(tmp_path / "*.jsonl", None)] == ["a.jsonl", "b.jsonl", "c.jsonl"]


@pytest.mark.parametrize(
    ("write", "name"), [(write_jsonl, "a.jsonl"), (write_parquet, "a.parquet"), (write_arrow, "a.arrow")]
)
def test_every_kind_of_file_gives_its_records_in_order_again_and_again(tmp_path, write, name):
    (shard,) = find_shards(write(tmp_path / name, range(8)), None)
    assert ids(shard) == ids(shard) == [f"r{number}" for number in range(8)]


def test_a_name_leads_back_to_its_line_and_row(tmp_path):
    (lines,) = find_shards(write_jsonl(tmp_path / "a.jsonl", range(3)), None)
    (rows,) = find_shards(write_parquet(tmp_path / "a.parquet", range(3)), None)
    assert [found.name for found in lines.records()] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    assert [found.name for found in rows.records()] == ["a.parquet[0]", "a.parquet[1]", "a.parquet[2]"]


@pytest.mark.parametrize(("write", "name"), [(write_parquet, "a.parquet"), (write_arrow, "a.arrow")])
def test_a_table_that_is_cut_off_is_one_fault(tmp_path, write, name):
    path = write(tmp_path / name, range(9))
    path.write_bytes(path.read_bytes()[:600])
    found = ids(find_shards(path, None)[0])
    assert found[-1] == "unreadable_shard"
    assert len(found) < 9


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"hub:nobody/nothing:test: cannot be streamed from the hub: .*Offline"):
        find_shards("hub:nobody/nothing:test", None)


def test_a_data_set_streamed_by_datasets_gives_its_parts(tmp_path, monkeypatch):
    import datasets

    rows = datasets.Dataset.from_list(
        [record(number, {"bytes": png(number), "path": None}) for number in range(6)]
    ).cast_column("image", datasets.Image())
    asked = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, **how: asked.append((name, how)) or rows.to_iterable_dataset(3)
    )
    shards = find_shards("hub:owner/name:test", None)
    assert asked == [("owner/name", {"split": "test", "streaming": True})]
    assert [shard.name for shard in shards] == ["owner/name:test[0]", "owner/name:test[1]", "owner/name:test[2]"]
    assert [one for shard in shards for one in ids(shard)] == [f"r{number}" for number in range(6)]
    first = next(iter(shards[0].records())).read()
    assert first["image"]["bytes"] == png(0)
    assert json.dumps(first["conversations"])
