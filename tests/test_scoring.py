"""Score files are whole, repeatable to the bit and resumable; bad records are named; nothing is overwritten."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from worlds.small_scores import mixed_samples, scored, spread_pair, text_sample
from worlds.tiny_worlds import coloured_samples

from contralign import atomic_write, scoring
from contralign.contrast.blur import BlurPicture
from contralign.contrast.drop import DropImage
from contralign.contrast.mask import MaskImage
from contralign.contrast.mean import MeanPicture
from contralign.contrast.shuffle import ShufflePictures
from contralign.core.passes import compare_passes
from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Turn
from contralign.data.records.mixture import load_samples
from contralign.data.scores import score_parts
from contralign.models.adapters.registry import adapter_for

SAMPLES = mixed_samples(10)


@pytest.fixture(scope="module")
def pair():
    return spread_pair(SAMPLES)


class Killed(Exception):
    """Stands for a kill inside of the process."""


def killed_after(monkeypatch, writes):
    """Let `writes` parts be written, and then die while the next is on its way to disk."""
    original, done = atomic_write.fsync, []

    def die(path):
        if path.suffix == ".partial" and "part-" in path.name:
            done.append(path)
            if len(done) > writes:
                raise Killed
        original(path)

    monkeypatch.setattr(atomic_write, "fsync", die)
    monkeypatch.setattr(atomic_write, "remove", lambda path: None)  # a killed process removes nothing


def test_every_label_token_has_its_numbers_in_the_order_of_the_data(pair, tmp_path):
    model, collator = pair
    file = scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    table = pq.read_table(file.path).to_pylist()
    assert [row["id"] for row in table] == [sample.id for sample in SAMPLES]
    assert [row["index"] for row in table] == list(range(11))
    assert [row["num_pictures"] for row in table] == [1] * 10 + [0]
    adapter = adapter_for(model)
    for row, sample in zip(table, SAMPLES, strict=True):
        batch = collator([sample])
        with torch.no_grad():
            looks = compare_passes(adapter, DropImage(), adapter.prepare(batch), ("logit", "logprob"))
        valid = looks.valid[0]
        assert row["label"] == batch["labels"][0, 1:][valid].tolist()
        assert row["position"] == (valid.nonzero()[:, 0] + 1).tolist()
        assert row["delta_logit"] == pytest.approx(looks.delta["logit"][0, valid].tolist(), abs=1e-4)
        assert row["delta_logprob"] == pytest.approx(looks.delta["logprob"][0, valid].tolist(), abs=1e-4)
        assert row["nll"] == pytest.approx(looks.nll[0, valid].tolist(), abs=1e-4)
        gain = np.array(row["nll_without"]) - np.array(row["nll"])
        assert gain == pytest.approx(np.array(row["delta_logprob"]), abs=1e-5)
    assert np.std([value for row in table for value in row["delta_logit"]]) > 1


def test_the_file_says_what_it_was_made_with(pair, tmp_path):
    model, collator = pair
    file = scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=MaskImage())
    assert file.settings["contrast"] == "mask"
    assert file.settings["template"] == "chat"
    assert (file.settings["num_samples"], file.settings["num_scored"]) == (11, 11)
    assert file.settings["sources"] == ["list"]
    assert {"tokenizer", "image_processor", "max_length", "samples_digest", "model", "version"} <= set(file.settings)
    metadata = pq.read_schema(file.path).metadata
    assert json.loads(metadata[b"contralign.scores"]) == ["logit", "logprob"]


def test_batches_are_of_like_length_the_longest_first_and_texts_last():
    samples = load_samples([text_sample(), *[sized(number, words) for number, words in enumerate((3, 1, 9, 5, 7))]])
    batches = scoring._batches(samples, range(6), 2)
    assert [[samples[index].id for index in batch] for batch in batches] == [["s2", "s4"], ["s3", "s0"], ["s1", "text"]]
    assert scoring._batches(samples, range(2, 4), 2) == [[3, 2]]


def sized(number, words):
    return replace(
        SAMPLES[0], id=f"s{number}", turns=(SAMPLES[0].turns[0], Turn("assistant", "red " * words)), spans=()
    )


@pytest.mark.bit_exact
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_killed_run_goes_on_and_equals_an_unbroken_one_to_the_bit(writes, pair, tmp_path, monkeypatch):
    model, collator = pair
    unbroken = scored(tmp_path / "unbroken.parquet", model, collator, SAMPLES).path
    with monkeypatch.context() as patch:
        killed_after(patch, writes)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    assert not (tmp_path / "s.parquet").exists()
    folder = tmp_path / "s.parquet.parts"
    assert len(list(folder.glob("part-*.parquet"))) == writes
    assert list(folder.glob("*.partial"))
    read = []
    original = scoring.SampleReader.look
    monkeypatch.setattr(
        scoring.SampleReader, "look", lambda self, *rest, **named: read.append(1) or original(self, *rest, **named)
    )
    resumed = scored(tmp_path / "s.parquet", model, collator, SAMPLES).path
    assert len(read) == 3 - writes
    assert resumed.read_bytes() == unbroken.read_bytes()
    assert not folder.exists()


def harmed(content, how):
    if how == "cut":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    place = content.index(b"contralign.digests") - 200 if how == "flipped" else 0
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.bit_exact
@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_a_damaged_part_is_named_and_scored_again(how, pair, tmp_path, monkeypatch, caplog):
    model, collator = pair
    whole = scored(tmp_path / "whole.parquet", model, collator, SAMPLES, part_size=4)
    killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, part_size=4)
    monkeypatch.undo()
    part = tmp_path / "s.parquet.parts" / "part-00000.parquet"
    part.write_bytes(harmed(part.read_bytes(), how))
    with caplog.at_level("WARNING"):
        again = scored(tmp_path / "s.parquet", model, collator, SAMPLES, part_size=4)
    assert "part-00000.parquet" in caplog.text and "scores it again" in caplog.text
    assert again.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"'])
def test_a_damaged_manifest_is_named(content, pair, tmp_path, monkeypatch):
    model, collator = pair
    killed_after(monkeypatch, 1)
    with pytest.raises(Killed):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, part_size=4)
    monkeypatch.undo()
    (tmp_path / "s.parquet.parts" / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json.* is damaged.*--fresh"):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, part_size=4)


def test_a_kill_between_the_merge_and_its_cleaning_leaves_a_finished_file(pair, tmp_path, monkeypatch):
    model, collator = pair
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    before = (tmp_path / "s.parquet").read_bytes()
    assert (tmp_path / "s.parquet.parts").exists()
    scored(tmp_path / "s.parquet", None, collator, SAMPLES)
    assert (tmp_path / "s.parquet").read_bytes() == before
    assert not (tmp_path / "s.parquet.parts").exists()


@pytest.mark.bit_exact
def test_a_kill_in_the_merge_keeps_every_part(pair, tmp_path, monkeypatch):
    model, collator = pair
    unbroken = scored(tmp_path / "unbroken.parquet", model, collator, SAMPLES).path
    original, written = pq.read_table, []

    def die(path, *rest, **settings):
        written.append(path)
        if len(written) == 2:
            raise Killed
        return original(path, *rest, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_table", die)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    assert not (tmp_path / "s.parquet").exists()
    resumed = scored(tmp_path / "s.parquet", None, collator, SAMPLES).path
    assert resumed.read_bytes() == unbroken.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.parquet", "unbroken.parquet"]


def test_a_process_that_finds_the_parts_joined_by_another_takes_the_file_as_done(pair, tmp_path, monkeypatch):
    model, collator = pair
    merge = score_parts.ScoreParts.merge

    def twice(self, bad=()):
        first = merge(self, bad)
        assert merge(self, bad) == first
        return first

    monkeypatch.setattr(score_parts.ScoreParts, "merge", twice)
    assert len(scored(tmp_path / "s.parquet", model, collator, SAMPLES)) == len(SAMPLES)


def test_a_finished_file_needs_no_model(pair, tmp_path):
    model, collator = pair
    first = scored(tmp_path / "s.parquet", model, collator, SAMPLES).path.stat().st_mtime_ns
    again = scored(tmp_path / "s.parquet", None, collator, SAMPLES)
    assert again.path.stat().st_mtime_ns == first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 2}, "batch_size was 4, is 2"),
        ({"part_size": 5}, "part_size was 4, is 5"),
        ({"contrast": MaskImage()}, "contrast was 'drop', is 'mask'"),
        ({"scores": ("logit",)}, r"scores was \['logit', 'logprob'\], is \['logit'\]"),
        ({"about": {"model": "other"}}, "model was 'tiny', is 'other'"),
    ],
)
def test_parts_of_other_settings_are_not_gone_on_with(changes, named, pair, tmp_path, monkeypatch):
    model, collator = pair
    with monkeypatch.context() as patch:
        killed_after(patch, 1)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    with pytest.raises(ValueError, match=f"parts of a run with other settings.*{named}.*--fresh"):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, **changes)
    fresh = scored(tmp_path / "s.parquet", model, collator, SAMPLES, fresh=True, **changes)
    assert len(fresh) == len(SAMPLES)


def test_changed_data_are_not_gone_on_with(pair, tmp_path, monkeypatch):
    model, collator = pair
    with monkeypatch.context() as patch:
        killed_after(patch, 1)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    with pytest.raises(ValueError, match="samples_digest was"):
        scored(tmp_path / "s.parquet", model, collator, [SAMPLES[1], SAMPLES[0], *SAMPLES[2:]])


def test_a_file_of_other_settings_is_replaced_only_when_told(pair, tmp_path):
    model, collator = pair
    before = scored(tmp_path / "s.parquet", model, collator, SAMPLES).path.read_bytes()
    with pytest.raises(ValueError, match=r"made with other settings \(contrast was 'drop', is 'mask'\).*--fresh"):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=MaskImage())
    assert (tmp_path / "s.parquet").read_bytes() == before
    scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=MaskImage(), fresh=True)
    assert (tmp_path / "s.parquet").read_bytes() != before


@pytest.mark.parametrize("fresh", [False, True])
def test_what_is_no_score_file_is_never_written_over(fresh, pair, tmp_path):
    model, collator = pair
    (tmp_path / "thesis.json").write_text("years of work")
    with pytest.raises(ValueError, match="will not write over what is there"):
        scored(tmp_path / "thesis.json", model, collator, SAMPLES, fresh=fresh)
    assert (tmp_path / "thesis.json").read_text() == "years of work"


def long_sample():
    turns = (Turn("user", "say it " * 60 + SAMPLES[1].turns[0].text), SAMPLES[1].turns[1])
    return replace(SAMPLES[1], id="long", turns=turns)


def test_bad_records_are_named_and_counted_and_never_kill_a_run_that_skips(pair, tmp_path):
    model, collator = pair
    skipping = VLCollator(collator.processor, max_length=60, on_bad="skip")
    records = [*SAMPLES[:3], long_sample(), {"id": "broken", "conversations": 7}, *SAMPLES[3:]]
    file = scored(tmp_path / "s.parquet", model, skipping, records, part_size=2)
    bad = file.settings["bad_records"]
    assert {fault["reason"]: fault["record"].split(", ")[-1] for fault in bad}["no_label_left"] == "long"
    assert len(bad) == 2
    assert len(file) == file.settings["num_scored"] == 11
    assert file.settings["num_samples"] == 12
    rows = pq.read_table(file.path, columns=["index", "id"]).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2, *range(4, 12)]
    assert [row["id"] for row in rows] == [sample.id for sample in SAMPLES]
    again = scoring._summary(file.path, file.settings, 0, 0.0)
    assert sum(again.bad.values()) == 2


def test_a_bad_record_ends_a_run_that_does_not_skip(pair, tmp_path):
    model, collator = pair
    strict = VLCollator(collator.processor, max_length=60)
    with pytest.raises(BadRecord, match="long"):
        scored(tmp_path / "s.parquet", model, strict, [*SAMPLES[:3], long_sample()])


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_delta_that_is_not_finite_is_never_written(on_bad, pair, tmp_path, monkeypatch):
    model, collator = pair
    original = scoring.SampleReader.look

    def overflow(self, encoded, draw=0):
        looks = original(self, encoded, draw)
        for row, sample in enumerate(encoded.samples):
            if sample.id == "c2":
                with torch.inference_mode():
                    looks.delta["logit"][row, looks.valid[row].nonzero()[1]] = float("inf")
        return looks

    monkeypatch.setattr(scoring.SampleReader, "look", overflow)
    collator = VLCollator(collator.processor, on_bad=on_bad)
    if on_bad == "error":
        with pytest.raises(BadRecord, match=r"c2: delta_logit of the token at \d+ is not finite"):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
        return
    file = scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    assert len(file) == 10
    assert [(bad["reason"], bad["record"]) for bad in file.settings["bad_records"]] == [("not_finite", "list, c2")]


def test_a_part_of_bad_records_alone_is_a_part_all_the_same(pair, tmp_path):
    model, collator = pair
    skipping = VLCollator(collator.processor, max_length=60, on_bad="skip")
    records = [long_sample(), replace(long_sample(), id="long2"), *SAMPLES[:3]]
    file = scored(tmp_path / "s.parquet", model, skipping, records, part_size=2, batch_size=2)
    assert len(file) == 3
    assert file.values_of(SAMPLES[1], collator.encode_batch([SAMPLES[1]]).rows[0]).std() > 0


def test_degraded_pictures_are_scored_and_their_settings_kept(pair, tmp_path):
    model, collator = pair
    keeping = VLCollator(collator.processor, keep_pictures=True)
    file = scored(tmp_path / "s.parquet", model, keeping, coloured_samples(4), contrast=BlurPicture(sigma=3.0))
    assert file.settings["contrast_settings"] == {"sigma": 3.0}


@pytest.mark.bit_exact
@pytest.mark.parametrize("contrast", [MeanPicture, ShufflePictures, lambda: DropImage(prompt="red")])
def test_our_own_contrasts_resume_to_the_bit(contrast, pair, tmp_path, monkeypatch):
    model, collator = pair
    unbroken = scored(tmp_path / "unbroken.parquet", model, collator, SAMPLES, contrast=contrast())
    with monkeypatch.context() as patch:
        killed_after(patch, 1)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=contrast())
    resumed = scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=contrast())
    assert resumed.path.read_bytes() == unbroken.path.read_bytes()
    assert unbroken.index.values.std() > 0.5


def test_the_mean_picture_does_not_depend_on_how_the_data_are_cut(pair, tmp_path):
    model, collator = pair
    one, other = (
        scored(
            tmp_path / f"{size}.parquet", model, collator, SAMPLES, contrast=MeanPicture(), part_size=size, batch_size=3
        )
        for size in (3, 11)
    )
    assert one.index.values == pytest.approx(other.index.values, abs=1e-3)


def test_the_mean_picture_of_records_that_are_all_bad_kills_no_run_that_skips(pair, tmp_path):
    model, collator = pair
    skipping = VLCollator(collator.processor, max_length=60, on_bad="skip")
    records = [*(replace(long_sample(), id=f"long{number}") for number in range(9)), *SAMPLES[:3]]
    file = scored(tmp_path / "s.parquet", model, skipping, records, contrast=MeanPicture())
    assert len(file) == 3
    assert len(file.settings["bad_records"]) == 9


def test_shuffled_pictures_are_not_scored_in_batches_of_one(pair, tmp_path):
    model, collator = pair
    with pytest.raises(ValueError, match="contrast='shuffle' with batch_size=1"):
        scored(tmp_path / "s.parquet", model, collator, SAMPLES, contrast=ShufflePictures(), batch_size=1)


def test_progress_is_shown_and_starts_where_a_killed_run_stopped(pair, tmp_path, monkeypatch, capsys):
    model, collator = pair
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(Killed):
            scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    capsys.readouterr()
    scored(tmp_path / "s.parquet", model, collator, SAMPLES)
    shown = capsys.readouterr().err
    assert "8/11" in shown
    assert "11/11" in shown
    assert "sample/s" in shown
