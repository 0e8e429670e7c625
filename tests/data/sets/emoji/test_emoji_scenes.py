import pytest
from worlds.emoji_package import write_emoji_package

from contralign.data.records.messages import IMAGE
from contralign.data.sets import SETS
from contralign.data.sets.emoji.emoji_images import PACKAGE, read_emoji
from contralign.data.sets.emoji.emoji_remarks import PEOPLE
from contralign.data.sets.emoji.emoji_scenes import (
    COLOURS,
    REQUESTS,
    TEMPLATES,
    emoji_scenes,
    split_of_pair,
    vocabulary,
)
from contralign.data.sets.packages import MissingPackage
from contralign.data.sets.splits import split_of

GOLDEN = [
    "a picture of the banana next to the coin, with pink all around. felix sent it to daniel from quito.",
    "helen sent it to fiona from hanoi. a picture of the anchor next to the trumpet, with red all around.",
    "on black paper, the tiger to the right of the spoon. boris sent it to tina from boston.",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_emoji_package(tmp_path_factory.mktemp("emoji"))


def shown(sample):
    words = [sample.turns[1].text[span.start : span.end] for span in sample.spans if span.kind == "visual"]
    (colour,) = set(words) & set(COLOURS)
    names = [word for word in words if word != colour]
    return names, colour


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(root):
    first, again, other = (emoji_scenes("train", 30, seed, root, pictures=12, fillers=1) for seed in (5, 5, 6))
    assert [(s.turns, s.spans, s.pictures[0].tobytes()) for s in first] == [
        (s.turns, s.spans, s.pictures[0].tobytes()) for s in again
    ]
    assert not {s.pictures[0].tobytes() for s in first} & {s.pictures[0].tobytes() for s in other}


def test_a_longer_list_begins_with_the_shorter_one(root):
    longer, shorter = (emoji_scenes("heldout", count, root=root, pictures=12) for count in (20, 8))
    assert [s.turns for s in longer[:8]] == [s.turns for s in shorter]
    assert longer[7].id == "emoji_scenes/heldout/0/7"


def test_what_a_seed_gives_stays_as_it_is(root):
    said = [sample.turns[1].text for sample in emoji_scenes("heldout", 3, root=root, pictures=12, fillers=1)]
    assert said == GOLDEN


def test_no_pair_is_in_both_splits_whatever_the_order_and_the_seed(root):
    def pairs(split, seed):
        return {frozenset(shown(s)[0]) for s in emoji_scenes(split, 200, seed, root, pictures=12, side=56)}

    train, heldout = pairs("train", 0) | pairs("train", 1), pairs("heldout", 2)
    assert not train & heldout
    assert len(train) + len(heldout) == 12 * 11 / 2
    assert {name for pair in heldout for name in pair} <= {name for pair in train for name in pair}
    assert split_of_pair("bell", "tent") == split_of_pair("tent", "bell")


def test_held_out_pictures_are_never_trained_on(root):
    for split in ("train", "heldout"):
        samples = emoji_scenes(split, 50, root=root, pictures=17, side=56, holdout="pictures")
        assert {split_of(name) for sample in samples for name in shown(sample)[0]} == {split}


def test_a_caption_tells_of_left_and_right_on_its_colour(root):
    """Each half of the picture holds the colour of its emoji, as the tiny package has painted it."""
    inks = {one.name: _ink(one.picture) for one in read_emoji(root)}
    seen = set()
    for sample in emoji_scenes("train", 80, root=root, pictures=12):
        names, colour = shown(sample)
        (template,) = [
            template
            for template in TEMPLATES
            for left, right in (names, names[::-1])
            if template.format(left=left, right=right, colour=colour) == sample.turns[1].text
        ]
        seen.add(template)
        left, right = names if template.index("{left}") < template.index("{right}") else names[::-1]
        picture = sample.pictures[0]
        side = picture.width
        for name, half in ((left, (0, 0, side // 2, side)), (right, (side // 2, 0, side, side))):
            assert inks[name] in {pixel for _, pixel in picture.crop(half).getcolors(side * side)}
        _, ground = max(picture.getcolors(side * side))
        assert all(abs(a - b) <= 12 for a, b in zip(ground, COLOURS[colour], strict=True))
    assert seen == set(TEMPLATES)


def _ink(path):
    from PIL import Image

    return Image.open(path).getpixel((32, 32))[:3]


def test_no_colour_begins_with_a_vowel_so_that_the_article_does_not_tell_it():
    assert all(colour[0] not in "aeiou" for colour in COLOURS)


def test_fillers_are_told_beside_the_picture_and_are_filler(root):
    for sample in emoji_scenes("train", 20, root=root, pictures=12, fillers=2):
        text = sample.turns[1].text
        fillers = {text[span.start : span.end] for span in sample.spans if span.kind == "filler"}
        assert fillers & set(PEOPLE)
        assert len(shown(sample)[0]) == 2
        assert sum(span.end - span.start for span in sample.spans) >= len(text.replace(" ", ""))


def test_every_sample_asks_for_its_one_picture(root):
    samples = emoji_scenes("train", 40, root=root, pictures=12, side=84)
    assert {sample.turns[0].text for sample in samples} == {f"{IMAGE}\n{request}" for request in REQUESTS}
    assert all(sample.pictures[0].size == (84, 84) and sample.pictures[0].mode == "RGB" for sample in samples)


def test_fewer_pictures_are_among_more_and_short_names_come_first(root):
    names = [one.name for one in vocabulary(18, root)]
    assert [one.name for one in vocabulary(5, root)] == names[:5]
    assert names[-1] == "polar bear" and "andorra flag" not in names


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "test"}, "split='test': wanted one of train, heldout"),
        ({"holdout": "names"}, "holdout='names': wanted one of combinations, pictures"),
        ({"count": -1}, "count=-1"),
        ({"fillers": -1}, "fillers=-1"),
        ({"side": 55}, "side=55: wanted 56 to 448"),
        ({"pictures": 1}, "pictures=1: wanted 2 to 18"),
        ({"pictures": 19}, "pictures=19: wanted 2 to 18"),
    ],
)
def test_a_wrong_setting_is_refused(root, wrong, message):
    settings = {"split": "train", "count": 2, "root": root, "pictures": 12} | wrong
    with pytest.raises(ValueError, match=message):
        emoji_scenes(**settings)


@pytest.mark.parametrize("holdout", ["combinations", "pictures"])
def test_too_few_pictures_for_a_split_are_refused_and_not_waited_for(root, holdout):
    split = "train"
    if holdout == "combinations":
        split = "heldout" if split_of_pair(*(one.name for one in vocabulary(2, root))) == "train" else "train"
    elif all(split_of(one.name) == "train" for one in vocabulary(2, root)):
        split = "heldout"
    with pytest.raises(ValueError, match="pictures=2 leaves no two emoji"):
        emoji_scenes(split, 1, root=root, pictures=2, holdout=holdout)


def test_the_true_package_gives_200_names_of_one_word():
    try:
        PACKAGE.folder()
    except MissingPackage as error:
        pytest.skip(str(error))
    assert all(" " not in one.name for one in vocabulary(387))
    assert len(vocabulary(857)) == 857
    assert len(emoji_scenes("heldout", 20)) == 20


def test_emoji_scenes_is_a_registered_set():
    assert SETS["emoji_scenes"] is emoji_scenes
