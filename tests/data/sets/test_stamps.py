import logging

import pytest
from PIL import Image

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, open_image
from contralign.data.sets import SETS
from contralign.data.sets.packages import MissingPackage
from contralign.data.sets.splits import split_of
from contralign.data.sets.stamps import PACKAGE, read_stamps, stamps

SENTENCES = {
    "animals/birds/owl": "An owl.",
    "animals/birds/cartoon/owl": "An owl.",
    "animals/lion": "A happy lion!",
    "food/banana": "A banana.",
    "food/tea": "A cup of tea.",
    "plants/rose": "A yellow rose.",
    "town/sign": "School ahead! Drive slowly!",
    "space/moon": "Our moon.",
}


@pytest.fixture
def root(tmp_path):
    for name, sentence in SENTENCES.items():
        write_stamp(tmp_path, name, f"{sentence}\nde.utf8=Etwas.\n")
    (tmp_path / "food/pie.svg").write_text("<svg/>")
    (tmp_path / "food/pie.txt").write_text("A pie.\n")
    (tmp_path / "food/tea.svg").write_text("<svg/>")
    Image.new("RGB", (20, 10)).save(tmp_path / "food/tea_mirror.png")
    return tmp_path


def write_stamp(root, name, text):
    picture = root / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", (20, 10), (200, 0, 0, 0)).save(picture)
    picture.with_suffix(".txt").write_text(text)


def test_the_first_line_is_the_sentence(root):
    found = read_stamps(root)
    assert {one.name: one.sentence for one in found.captioned} == SENTENCES
    assert all(one.picture == root / f"{one.name}.png" for one in found.captioned)


def test_what_cannot_be_used_is_counted_and_told(root, caplog):
    found = read_stamps(root)
    assert (found.svg_only, found.uncaptioned) == (("food/pie",), ("food/tea_mirror",))
    with caplog.at_level(logging.INFO, logger="contralign"):
        stamps("train", root)
    assert "8 pictures with a sentence; left out: 1 that are SVG alone, 1 PNG without a sentence" in caplog.text


def test_every_picture_is_in_one_split_and_no_sentence_in_both(root):
    said = {split: [sample.turns[1].text for sample in stamps(split, root)] for split in ("train", "heldout")}
    assert sorted(said["train"] + said["heldout"]) == sorted(SENTENCES.values())
    assert not set(said["train"]) & set(said["heldout"])
    for split, sentences in said.items():
        assert sentences and {split_of(sentence) for sentence in sentences} == {split}


def test_a_sample_asks_for_its_picture_and_claims_to_know_no_kinds(root):
    for sample in stamps("train", root):
        assert sample.turns[0].text.startswith(IMAGE) and sample.spans == ()
        assert SENTENCES[sample.id.removeprefix("stamps/")] == sample.turns[1].text


def test_transparent_ground_becomes_white(root):
    assert open_image(stamps("train", root)[0].pictures[0]).getpixel((0, 0)) == (255, 255, 255)


def test_folders_and_a_limit_choose(root):
    names = [sample.id for split in ("train", "heldout") for sample in stamps(split, root, folders=["food", "space"])]
    assert sorted(names) == ["stamps/food/banana", "stamps/food/tea", "stamps/space/moon"]
    whole = [sample.id for sample in stamps("train", root)]
    drawn = [sample.id for sample in stamps("train", root, limit=3, seed=1)]
    assert len(set(drawn)) == 3 and set(drawn) <= set(whole)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "test"}, "split='test': wanted one of train, heldout"),
        ({"limit": 99}, "limit=99: stamps train has 0 to"),
        ({"folders": "cars"}, r"folders=\['cars'\]: wanted one or more of animals, food"),
        ({"folders": []}, "wanted one or more"),
    ],
)
def test_a_wrong_setting_is_refused(root, wrong, message):
    with pytest.raises(ValueError, match=message):
        stamps(root=root, **wrong)


@pytest.mark.parametrize("text", ["", "\nde.utf8=Etwas.\n"])
def test_a_text_without_a_sentence_is_refused(root, text):
    write_stamp(root, "food/nothing", text)
    with pytest.raises(ValueError, match=r"nothing.txt: wanted an English sentence"):
        read_stamps(root)


def test_a_text_that_is_not_utf8_is_refused(root):
    (root / "food/tea.txt").write_bytes(b"\xe9t\xe9\n")
    with pytest.raises(ValueError, match=r"tea.txt is not UTF-8"):
        read_stamps(root)


@pytest.mark.parametrize("ending", ["png", "txt"])
def test_a_symlink_that_leads_out_of_the_root_is_refused(root, tmp_path_factory, ending):
    outside = tmp_path_factory.mktemp("outside") / f"tea.{ending}"
    inside = root / f"food/tea.{ending}"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(BadRecord, match="outside"):
        read_stamps(root)


def test_without_the_package_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingPackage, match="apt-get download tuxpaint-stamps-default"):
        stamps(root=tmp_path)


def test_the_true_package_has_hundreds_of_sentences_in_two_splits():
    try:
        PACKAGE.folder()
    except MissingPackage as error:
        pytest.skip(str(error))
    train, heldout = stamps("train"), stamps("heldout")
    assert len(train) + len(heldout) > 700
    assert 0.15 < len(heldout) / (len(train) + len(heldout)) < 0.25


def test_stamps_is_a_registered_set():
    assert SETS["stamps"] is stamps
