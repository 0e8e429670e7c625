import pytest
from worlds.emoji_package import write_emoji_package

from contralign.data.records.messages import IMAGE, open_image
from contralign.data.sets import SETS
from contralign.data.sets.emoji.emoji import TEMPLATES, emoji
from contralign.data.sets.emoji.emoji_images import PACKAGE, read_emoji
from contralign.data.sets.packages import MissingPackage
from contralign.data.sets.splits import HELDOUT_SHARE, split_of


@pytest.fixture
def root(tmp_path):
    return write_emoji_package(tmp_path)


def name_of(sample):
    (name,) = [sample.turns[1].text[span.start : span.end] for span in sample.spans if span.kind == "visual"]
    return name


def test_every_emoji_is_in_one_split_as_its_name_says(root):
    train, heldout = emoji("train", root), emoji("heldout", root)
    assert len(train) > len(heldout) > 0
    assert {name_of(sample) for sample in train} | {name_of(sample) for sample in heldout} == {
        one.name for one in read_emoji(root)
    }
    for split, samples in (("train", train), ("heldout", heldout)):
        assert {split_of(name_of(sample)) for sample in samples} == {split}


def test_a_sentence_holds_the_name_as_its_only_visual_words(root):
    by_name = {one.name: one.picture for one in read_emoji(root)}
    for sample in emoji("train", root):
        assert sample.pictures == (by_name[name_of(sample)],)
        assert sample.turns[0].text.startswith(IMAGE)
        assert sample.turns[1].text in [template.format(name=name_of(sample)) for template in TEMPLATES]
        told = sum(span.end - span.start for span in sample.spans)
        assert told >= len(sample.turns[1].text.replace(" ", ""))


def test_transparent_ground_becomes_white(root):
    assert open_image(emoji("train", root)[0].pictures[0]).getpixel((0, 0)) == (255, 255, 255)


def test_the_seed_draws_the_sentences_and_a_limit_the_emoji(root):
    said = {seed: [sample.turns[1].text for sample in emoji("train", root, seed=seed)] for seed in (0, 1)}
    assert said[0] != said[1]
    assert said[0] == [sample.turns[1].text for sample in emoji("train", root)]
    drawn = emoji("train", root, limit=5, seed=3)
    assert len({sample.id for sample in drawn}) == 5
    assert {sample.id for sample in drawn} <= {sample.id for sample in emoji("train", root)}


def test_groups_choose(root):
    assert [name_of(s) for split in ("train", "heldout") for s in emoji(split, root, groups="Flags")] == [
        "andorra flag"
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "test"}, "split='test': wanted one of train, heldout"),
        ({"limit": 99}, "limit=99: emoji train has 0 to"),
        ({"groups": ["Cars"]}, "groups=\\['Cars'\\]: wanted one or more of Activities"),
        ({"groups": []}, "wanted one or more"),
    ],
)
def test_a_wrong_setting_is_refused(root, wrong, message):
    with pytest.raises(ValueError, match=message):
        emoji(root=root, **wrong)


def test_about_one_name_in_five_of_the_true_package_is_held_out():
    try:
        PACKAGE.folder()
    except MissingPackage as error:
        pytest.skip(str(error))
    train, heldout = emoji("train"), emoji("heldout")
    assert len(train) + len(heldout) == 1906
    assert len(heldout) / 1906 == pytest.approx(1 / HELDOUT_SHARE, abs=0.03)


def test_emoji_is_a_registered_set():
    assert SETS["emoji"] is emoji
