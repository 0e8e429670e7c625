import json

import pytest
from worlds.emoji_package import NAMES, write_emoji_package

from contralign.data.records.bad_record import BadRecord
from contralign.data.sets.emoji.emoji_images import PACKAGE, read_emoji, spoken_name
from contralign.data.sets.packages import MissingPackage


def entry(**changes):
    return {"name": "HUT", "short_name": "hut", "image": "hut.png", "category": "Objects"} | changes


@pytest.mark.parametrize(
    ("name", "short_name", "spoken"),
    [
        ("POLAR BEAR", "polar_bear", "polar bear"),
        ("BLACK TELEPHONE", "phone", "telephone"),
        ("BLACK CAT", "black_cat", "black cat"),
        ("HEAVY BLACK HEART", "heart", "heavy heart"),
        ("RESCUE WORKER’S HELMET", "helmet_with_white_cross", "rescue worker's helmet"),
        ("WOMAN: RED HAIR", "red_haired_woman", "red haired woman"),
        ("FAMILY: MAN, GIRL, BOY", "man-girl-boy", "family of man, girl and boy"),
        ("Côte d’Ivoire Flag", "flag-ci", "côte d'ivoire flag"),
    ],
)
def test_names_are_told_as_people_say_them(name, short_name, spoken):
    assert spoken_name(name, short_name) == spoken


def test_every_picture_but_bare_skin_tones_is_listed_in_its_order(tmp_path):
    found = read_emoji(write_emoji_package(tmp_path))
    assert [one.name for one in found] == [name.lower().replace("black ", "") for name in NAMES] + ["andorra flag"]
    assert found[1].group == "Animals & Nature" and found[1].picture == tmp_path / "img/google/64/tiger.png"


def test_names_that_two_emoji_share_give_way_to_their_short_names(tmp_path):
    twins = (entry(), entry(short_name="old_hut", image="old.png"))
    assert [one.name for one in read_emoji(write_emoji_package(tmp_path, twins))][-2:] == ["hut", "old hut"]


def test_two_emoji_of_one_name_are_refused(tmp_path):
    folder = write_emoji_package(tmp_path, (entry(), entry(image="old.png")))
    with pytest.raises(ValueError, match="two emoji are called 'hut'"):
        read_emoji(folder)


def test_a_picture_outside_of_the_package_is_refused(tmp_path):
    folder = write_emoji_package(tmp_path / "package", ())
    (tmp_path / "secret.png").write_bytes((folder / "img/google/64/tiger.png").read_bytes())
    (folder / "emoji.json").write_text(json.dumps([entry(image="../../../../secret.png")]))
    with pytest.raises(BadRecord, match="outside"):
        read_emoji(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("{}", "wanted a list"), ("[]", "wanted a list"), ('[{"name": "HUT"}]', "wanted texts")],
)
def test_a_damaged_list_is_refused(tmp_path, text, message):
    folder = write_emoji_package(tmp_path)
    (folder / "emoji.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_emoji(folder)


def test_without_the_package_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingPackage, match="npm pack emoji-datasource-google"):
        read_emoji(tmp_path)


def test_the_true_package_has_1906_emoji_with_names_of_their_own():
    try:
        PACKAGE.folder()
    except MissingPackage as error:
        pytest.skip(str(error))
    names = [one.name for one in read_emoji()]
    assert len(names) == len(set(names)) == 1906
    assert all(name == name.lower().strip() and ":" not in name for name in names)
