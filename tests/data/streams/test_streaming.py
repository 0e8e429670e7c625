"""Streams: samples as of whole sets, disjoint and complete parts, one order for one seed, bad records left out."""

import json
import tracemalloc
from collections import Counter
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader
from worlds.small_scores import scored, spread_pair
from worlds.small_streams import png, record, tar_members, write_arrow, write_jsonl, write_parquet, write_tar

from contralign.data.records import skipped_records
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.images import LazyImage, contents
from contralign.data.records.messages import open_image
from contralign.data.records.mixture import load_samples
from contralign.data.streams.streaming import ALREADY_SEEN, StreamedSamples


def ids(stream, count=None):
    return [sample if sample is ALREADY_SEEN else sample.id for sample in islice(stream, count)]


def shards_of(folder, sizes, write=write_jsonl, ending="jsonl"):
    """Files of these many records, numbered through."""
    paths, first = [], 0
    for place, size in enumerate(sizes):
        paths.append(str(write(folder / f"s-{place}.{ending}", range(first, first + size))))
        first += size
    return paths


def tar(path, numbers):
    return write_tar(path, tar_members(numbers))


def pixels(sample):
    return [open_image(picture).tobytes() for picture in sample.pictures]


@pytest.mark.parametrize(
    ("write", "ending"), [(write_jsonl, "jsonl"), (tar, "tar"), (write_parquet, "parquet"), (write_arrow, "arrow")]
)
def test_a_pass_over_any_kind_of_file_equals_the_samples_read_whole(tmp_path, write, ending):
    whole = load_samples(write_jsonl(tmp_path / "whole.jsonl", range(7)), tmp_path)
    paths = shards_of(tmp_path, [4, 3], write, ending)
    streamed = list(StreamedSamples(paths, tmp_path).samples)
    assert [sample.id for sample in streamed] == [sample.id for sample in whole]
    assert [sample.turns for sample in streamed] == [sample.turns for sample in whole]
    assert list(map(pixels, streamed)) == list(map(pixels, whole))


def test_chat_messages_with_pictures_in_their_parts_are_read_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(png(4))
    turns = [
        {"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "which?"}]},
        {"role": "assistant", "content": "this"},
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n")
    (streamed,) = StreamedSamples(path, tmp_path).samples
    (whole,) = load_samples(path, tmp_path)
    assert (streamed.id, streamed.turns) == (whole.id, whole.turns)
    assert pixels(streamed) == pixels(whole)
    assert contents(streamed.pictures[0]) == contents(whole.pictures[0])


def test_a_stream_goes_on_after_a_pass_in_another_order(tmp_path):
    stream = StreamedSamples(shards_of(tmp_path, [5, 5, 5]), tmp_path)
    taken = ids(stream, 45)
    passes = [taken[start : start + 15] for start in (0, 15, 30)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert len(set(taken)) == 15


def test_a_seed_decides_the_order_and_none_keeps_it(tmp_path):
    paths = shards_of(tmp_path, [20, 20])
    orders = [ids(StreamedSamples(paths, tmp_path, seed=seed, shuffle_buffer=8), 40) for seed in (0, 0, 1, None)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == [f"r{number}" for number in range(40)]


def test_a_buffer_of_one_keeps_the_order_inside_of_shards(tmp_path):
    paths = shards_of(tmp_path, [6, 6, 6, 6])
    taken = ids(StreamedSamples(paths, tmp_path, seed=2, shuffle_buffer=1), 24)
    blocks = [[int(name[1:]) for name in taken[start : start + 6]] for start in range(0, 24, 6)]
    assert all(block == list(range(block[0], block[0] + 6)) for block in blocks)
    assert [block[0] for block in blocks] != [0, 6, 12, 18]


def test_a_record_is_drawn_no_further_ahead_than_the_buffer(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", range(60), pictures=False)
    taken = [int(name[1:]) for name in ids(StreamedSamples(path, seed=1, shuffle_buffer=10), 60)]
    assert all(number <= place + 10 for place, number in enumerate(taken))
    assert taken != sorted(taken)


@pytest.mark.parametrize("sizes", [[6, 6, 6, 6], [10, 3, 9], [24]], ids=["dealt whole", "dealt by record", "one file"])
@pytest.mark.parametrize("readers", [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_ranks_and_workers_share_a_pass_disjointly_and_completely(tmp_path, sizes, readers, monkeypatch):
    ranks, workers = readers
    stream = StreamedSamples(shards_of(tmp_path, sizes), tmp_path, passes=2, shuffle_buffer=4)
    taken = []
    for rank in range(ranks):
        part = stream.part(rank, ranks, seed=3, notes=tmp_path / "notes")
        for worker in range(workers):
            info = type("Info", (), {"id": worker, "num_workers": workers})
            monkeypatch.setattr(skipped_records, "get_worker_info", lambda info=info: info)
            taken.append(ids(part))
    both = Counter(name for part in taken for name in part)
    assert both == {f"r{number}": 2 for number in range(sum(sizes))}
    for part in taken if len(sizes) != 4 else []:
        assert abs(len(part) - 2 * sum(sizes) / (ranks * workers)) <= 2


def test_workers_of_a_loader_share_a_pass(tmp_path):
    stream = StreamedSamples(shards_of(tmp_path, [7, 6]), tmp_path, passes=1)
    loader = DataLoader(stream, batch_size=2, num_workers=2, collate_fn=lambda batch: [sample.id for sample in batch])
    assert sorted(name for batch in loader for name in batch) == sorted(f"r{number}" for number in range(13))
    assert stream.report.total == 13


@pytest.mark.parametrize("on_bad", ["error", "skip"])
@pytest.mark.parametrize("workers", [0, 2])
def test_passing_over_leads_to_the_same_next_batches_without_opening_pictures(tmp_path, on_bad, workers):
    paths = shards_of(tmp_path, [9, 8, 10])
    if on_bad == "skip":
        with open(paths[1], "a") as lines:
            lines.write("no json\n" + json.dumps({"conversations": []}) + "\n")

    def batches(passed):
        stream = StreamedSamples(paths, tmp_path, on_bad=on_bad, shuffle_buffer=5)
        stream.fast_forward(passed, 2)
        collate = lambda batch: [name if name is ALREADY_SEEN else name.id for name in batch]  # noqa: E731
        return list(islice(DataLoader(stream, batch_size=2, num_workers=workers, collate_fn=collate), 40))

    whole = batches(0)
    for png_file in tmp_path.glob("*.png"):
        png_file.unlink()  # whoever opens a picture now fails
    for passed in (1, 7, 20, 31):
        resumed = batches(passed)
        assert all(isinstance(one, type(ALREADY_SEEN)) for batch in resumed[:passed] for one in batch)
        assert resumed[passed:] == whole[passed:]


def test_bad_records_are_named_counted_and_left_out(tmp_path, caplog):
    path = write_jsonl(tmp_path / "a.jsonl", range(4), pictures=False)
    bad = ["no json", json.dumps({"conversations": []}), json.dumps({"id": "x"}), "[" * 50_000]
    path.write_text(path.read_text() + "\n".join(bad) + "\n")
    archive = write_tar(tmp_path / "b.tar", [("../x.json", b"{}"), *tar_members([7])])
    archive.write_bytes(archive.read_bytes()[:-9000])
    stream = StreamedSamples([path, archive], on_bad="skip", passes=3)
    taken = Counter(ids(stream))
    assert taken == {f"r{number}": 3 for number in range(4)}
    report = stream.report
    assert report.total == 3 * 4 + 6
    assert report.counts == {"bad_json": 2, "no_turns": 1, "missing_key": 1, "unsafe_member": 1, "cut_off": 1}
    assert {fault.record for fault in report.bad} >= {"a.jsonl:5", "a.jsonl:8", "b.tar:../x.json"}
    assert len([line for line in caplog.messages if "skipped" in line]) == 6


def test_a_bad_record_is_an_error_with_its_place_unless_it_may_be_skipped(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", range(2), pictures=False)
    path.write_text(path.read_text() + "no json\n")
    with pytest.raises(BadRecord, match=r"a\.jsonl:3: this is no JSON"):
        ids(StreamedSamples(path, seed=None), 5)


def test_pictures_that_are_missing_or_outside_are_found_when_a_batch_opens_them(tmp_path, image_root):
    names = ["good.png", "gone.png", "outward.png", "../secret.png", "text.png"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record(number, name)) + "\n" for number, name in enumerate(names)))
    samples = list(StreamedSamples(path, image_root).samples)
    assert open_image(samples[0].pictures[0]).getpixel((0, 0)) == (10, 20, 30)
    reasons = []
    for sample in samples[1:]:
        with pytest.raises(BadRecord) as refused:
            open_image(sample.pictures[0])
        reasons.append(refused.value.reason)
    assert reasons == ["missing_picture", "outside_root", "outside_root", "corrupt_picture"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("http://host/a.png", "remote_picture"), ("/etc/a.png", "absolute_path"), (7, "wrong_type"), ("", "wrong_type")],
)
def test_names_that_can_be_no_picture_are_bad_records_at_once(tmp_path, name, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record(0, name)) + "\n")
    with pytest.raises(BadRecord) as refused:
        ids(StreamedSamples(path, tmp_path).samples)
    assert refused.value.reason == reason


def test_a_forgotten_image_root_is_no_bad_record(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", range(2))
    with pytest.raises(BadRecord, match="set image_root"):
        ids(StreamedSamples(path, on_bad="skip"), 1)


def test_a_stream_without_a_good_record_ends_with_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("no json\n")
    with pytest.raises(ValueError, match=r"no good record of 1 shards \(0 of 1 records; skipped: bad_json 1\)"):
        ids(StreamedSamples(path, on_bad="skip"), 1)
    path.write_text("\n")
    with pytest.raises(ValueError, match="every worker of every rank needs"):
        ids(StreamedSamples(path), 1)


def test_what_is_done_to_samples_is_done_to_every_one(tmp_path):
    from contralign.run.records import without_pictures

    stream = StreamedSamples(shards_of(tmp_path, [3]), tmp_path, change=without_pictures)
    assert [sample.pictures for sample in stream.samples] == [(), (), ()]


@pytest.mark.parametrize("settings", [{"on_bad": "ignore"}, {"shuffle_buffer": 0}])
def test_unknown_settings_are_refused(tmp_path, settings):
    path = write_jsonl(tmp_path / "a.jsonl", [0], pictures=False)
    with pytest.raises(ValueError, match="wanted"):
        StreamedSamples(path, **settings)


def test_a_score_file_of_records_read_whole_serves_the_stream(tmp_path):
    samples = list(load_samples(write_jsonl(tmp_path / "a.jsonl", range(6)), tmp_path))
    model, collator = spread_pair(samples)
    file = scored(tmp_path / "s.parquet", model, collator, samples)
    archive = write_tar(tmp_path / "b.tar", tar_members(range(6)))
    whole = collator.with_scores(file)(samples)
    for source in (tmp_path / "a.jsonl", archive):
        streamed = collator.with_scores(file)(list(StreamedSamples(source, tmp_path).samples))
        assert streamed["cached_delta"].abs().max() > 0.1
        assert torch.equal(streamed["cached_delta"], whole["cached_delta"])
        assert torch.equal(streamed["pixel_values"], whole["pixel_values"])


def test_notes_are_removed_with_the_stream(tmp_path):
    stream = StreamedSamples(shards_of(tmp_path, [3]), tmp_path)
    ids(stream, 2)
    folder = stream._skipped.folder
    assert stream.report.total == 2
    del stream
    assert not folder.exists()


def test_a_large_file_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "large.jsonl"
    line = json.dumps(record(0) | {"note": "x" * 1500}) + "\n"
    with path.open("w") as lines:
        for _ in range(10_000):
            lines.write(line)
    size = path.stat().st_size
    assert size > 15e6
    tracemalloc.start()
    assert sum(1 for _ in StreamedSamples(path, passes=1, shuffle_buffer=500)) == 10_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


def test_a_buffer_of_archive_records_holds_no_pictures(tmp_path):
    heavy = bytes(100_000)
    members = [(name, content + heavy * name.endswith("png")) for name, content in tar_members(range(200))]
    path = write_tar(tmp_path / "s.tar", members)
    tracemalloc.start()
    assert sum(isinstance(sample.pictures[0], LazyImage) for sample in StreamedSamples(path, passes=1)) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.slow
def test_a_file_of_two_hundred_thousand_records_stays_out_of_memory(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("w") as lines:
        for number in range(200_000):
            lines.write(json.dumps(record(number) | {"note": "x" * 300}) + "\n")
    assert path.stat().st_size > 80e6
    tracemalloc.start()
    assert sum(1 for _ in StreamedSamples(path, passes=1)) == 200_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6
