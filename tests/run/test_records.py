"""A recipe's sources as samples."""

from dataclasses import replace

import pytest
from worlds.small_recipes import write_records

from contralign.data.batches.collator import VLCollator
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Turn
from contralign.models.small.tiny import build_tiny
from contralign.recipe.data_settings import DataSettings
from contralign.recipe.schema import RecipeError
from contralign.run.records import RecordReader, as_captions, as_chat, make_set, with_swaps


@pytest.fixture(scope="module")
def processor():
    return build_tiny(["a red circle"], hidden=16, layers=1, tower_hidden=16, tower_layers=1, heads=2, vocab_size=300)[
        1
    ]


def test_a_built_in_set_is_made_once_for_all_stages():
    reader = RecordReader()
    data = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 3}})
    first, second = reader.read(data, data.train, "data"), reader.read(data, data.train, "data")
    assert len(first) == 3
    assert all(one is other for one, other in zip(first.samples, second.samples, strict=True))


def test_only_the_sets_used_last_are_kept():
    reader = RecordReader(keep=2)

    def read(count):
        data = DataSettings(train=("scenes:train",), settings={"scenes": {"count": count}})
        return reader.read(data, data.train, "data").samples[0]

    first, second = read(1), read(2)
    assert read(1) is first
    read(3)
    assert read(1) is first
    assert read(2) is not second


def test_a_built_in_set_is_checked_once_for_collators_of_equal_settings(processor, monkeypatch):
    checked = []
    monkeypatch.setattr(VLCollator, "check", lambda self, sample: checked.append(sample.id))
    reader = RecordReader()
    data = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 3}})
    one, equal, other = VLCollator(processor), VLCollator(processor), VLCollator(processor, max_length=300)
    samples = [reader.read_for(collate, data, data.train, "data") for collate in (one, equal, other)]
    assert samples[0] is samples[1]
    assert len(checked) == 6


def test_a_set_without_its_pictures_is_not_taken_for_the_one_with_them(processor):
    reader, collate = RecordReader(), VLCollator(processor)
    without, whole = (
        reader.read_for(
            collate,
            DataSettings(train=("scenes:train",), settings={"scenes": {"count": 3}}, pictures=each),
            ("scenes:train",),
            "data",
        )
        for each in (False, True)
    )
    assert [len(sample.pictures) for sample in without] == [0, 0, 0]
    assert [len(sample.pictures) for sample in whole] == [1, 1, 1]


def test_files_are_read_and_checked_every_time(tmp_path, processor):
    data = DataSettings(train=(str(write_records(tmp_path)),), image_root=(str(tmp_path),))
    reader, collate = RecordReader(), VLCollator(processor)
    reader.read_for(collate, data, data.train, "data")
    (tmp_path / "3.png").unlink()
    with pytest.raises(BadRecord, match="missing_picture"):
        reader.read_for(collate, data, data.train, "data")


def test_settings_of_a_source_reach_the_set():
    data = DataSettings(
        train=("scenes:train", "scenes:heldout"), settings={"scenes": {"count": 3}, "scenes:heldout": {"count": 2}}
    )
    samples = RecordReader().read(data, data.train, "data").samples
    assert [sample.source for sample in samples] == ["scenes/train"] * 3 + ["scenes/heldout"] * 2


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("scene:train", {}, "no built-in set 'scene'; did you mean 'scenes'"),
        ("scenes:test", {"count": 1}, "split='test'"),
        ("scenes:train", {"count": -1}, "count=-1"),
        ("scenes:train", {"count": 1, "colour": 2}, "colour"),
        ("scenes:train", {}, "count"),
        ("easy_vqa:train", {"limt": 3}, "data.settings.easy_vqa.limt: unknown setting; did you mean 'limit'"),
    ],
)
def test_a_set_or_setting_that_does_not_exist_is_refused(source, settings, message):
    with pytest.raises(RecipeError) as refused:
        make_set(source, settings)
    assert message in str(refused.value)


def test_files_read_their_pictures_from_one_root_or_from_their_own(tmp_path):
    folders = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        folders.append(str(tmp_path / name))
    files = [str(write_records(tmp_path / name, 2)) for name in ("a", "b")]
    own = DataSettings(
        train=(files[0], "scenes:train"), eval=(files[1],), image_root=tuple(folders), settings={"scenes": {"count": 1}}
    )
    read = RecordReader()
    assert len(read.read(own, own.train, "data")) == 3
    assert str(read.read(own, own.eval, "data").samples[0].pictures[0]).startswith(folders[1])
    one = DataSettings(train=(files[0],), image_root=(folders[0],))
    assert len(read.read(one, one.train, "data")) == 2


def test_a_bad_record_ends_the_run_or_is_counted(tmp_path):
    source = str(write_records(tmp_path, 3))
    (tmp_path / "1.png").unlink()
    data = DataSettings(train=(source,), image_root=(str(tmp_path),))
    with pytest.raises(BadRecord, match="missing_picture"):
        RecordReader().read(data, data.train, "data")
    lenient = DataSettings(train=(source,), image_root=(str(tmp_path),), on_bad="skip")
    report = RecordReader().read(lenient, lenient.train, "data").report
    assert report.counts == {"missing_picture": 1}


def test_swaps_come_from_the_noise_seed_or_the_recipe_s():
    data = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 20}}, swap_noise=0.5)
    seeded = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 20}}, swap_noise=0.5, noise_seed=3)
    samples = RecordReader().read(data, data.train, "data")
    _, by_recipe = with_swaps(samples, data, seed=3)
    swapped, by_noise_seed = with_swaps(samples, seeded, seed=0)
    assert by_recipe == by_noise_seed
    assert len(by_noise_seed) == 10
    moved = [new.id for new, old in zip(swapped, samples, strict=True) if new.pictures != old.pictures]
    assert sorted(moved) == by_noise_seed


def test_without_noise_the_samples_stay_as_they_are():
    data = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 2}})
    samples = RecordReader().read(data, data.train, "data")
    assert with_swaps(samples, data, 0) == (samples, [])


def test_a_chat_keeps_the_words_and_not_the_pictures():
    sample = make_set("scenes:train", {"count": 1})[0]
    chat = as_chat(sample)
    assert [message["role"] for message in chat] == [turn.role for turn in sample.turns]
    assert not any(IMAGE in message["content"] for message in chat)
    assert chat[-1]["content"] == sample.turns[-1].text


def test_a_caption_is_a_picture_with_all_its_answers():
    sample = make_set("scenes:train", {"count": 1, "items": 2, "task": "question", "rounds": 2})[0]
    pictures, words = as_captions([sample, sample])
    assert [picture.size for picture in pictures] == [sample.pictures[0].size] * 2
    assert words[0] == " ".join(turn.text for turn in sample.turns if turn.role == "assistant")
    with pytest.raises(BadRecord, match="no_picture"):
        as_captions([replace(sample, pictures=(), turns=(Turn("user", "x"), Turn("assistant", "y")), spans=())])


def test_a_picture_file_is_opened_once_however_many_records_show_it(tmp_path):
    data = DataSettings(train=(str(write_records(tmp_path, 1)),), image_root=(str(tmp_path),))
    sample = RecordReader().read(data, data.train, "data").samples[0]
    pictures, _ = as_captions([sample, replace(sample, id="other")])
    assert pictures[0] is pictures[1]


def test_pictures_can_be_left_out_and_the_text_stays():
    seen = DataSettings(train=("scenes:train",), settings={"scenes": {"count": 3}})
    read = RecordReader()
    plain = read.read(seen, seen.train, "data")
    blind = read.read(replace(seen, pictures=False), seen.train, "data")
    for before, after in zip(plain, blind, strict=True):
        assert before.pictures
        assert not after.pictures
        assert after.spans == before.spans
        assert [turn.text for turn in after.turns] == [turn.text.replace(IMAGE, "").strip() for turn in before.turns]


def test_swaps_of_pictures_that_are_left_out_are_refused():
    with pytest.raises(ValueError, match=r"swap_noise=0\.5 has no effect with pictures: false"):
        DataSettings(train=("scenes:train",), pictures=False, swap_noise=0.5)
