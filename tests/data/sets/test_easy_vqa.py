import sys

import pytest

from contralign.data.records.messages import IMAGE, open_image
from contralign.data.sets import SETS
from contralign.data.sets.easy_vqa import COLOURS, SHAPES, easy_vqa, statement, wording

package = pytest.importorskip("easy_vqa")


@pytest.fixture(scope="module")
def train():
    return easy_vqa("train")


@pytest.fixture(scope="module")
def test_split():
    return easy_vqa("test")


def answer(sample):
    return sample.turns[-1].text


def test_every_question_of_the_package_is_there_with_its_picture(train, test_split):
    for samples, questions, paths in [
        (train, package.get_train_questions(), package.get_train_image_paths()),
        (test_split, package.get_test_questions(), package.get_test_image_paths()),
    ]:
        found = [(s.turns[0].text.removeprefix(f"{IMAGE}\n"), answer(s), str(s.pictures[0])) for s in samples]
        assert found == [(text, said, paths[number]) for text, said, number in zip(*questions, strict=True)]
    assert (len(train), len(test_split)) == (38575, 9673)
    assert {answer(sample) for sample in train} == set(package.get_answers())


def test_the_answer_word_is_visual(test_split):
    assert all(
        [(span.turn, span.start, span.end, span.kind) for span in sample.spans]
        == [(1, 0, len(answer(sample)), "visual")]
        for sample in test_split
    )


def test_pictures_open(test_split):
    assert open_image(test_split[0].pictures[0]).size == (64, 64)


def test_a_limit_draws_without_replacement_and_repeats_under_its_seed(test_split):
    drawn = easy_vqa("test", limit=200, seed=4)
    ids = [sample.id for sample in drawn]
    assert len(set(ids)) == 200
    assert set(ids) <= {sample.id for sample in test_split}
    assert ids == [sample.id for sample in easy_vqa("test", limit=200, seed=4)]
    assert ids != [sample.id for sample in easy_vqa("test", limit=200, seed=5)]


def test_there_are_24_wordings(train):
    assert len({wording(sample.turns[0].text) for sample in train}) == 24


@pytest.mark.parametrize(
    ("question", "said", "stated"),
    [
        ("what color is the shape?", "blue", "the shape is blue."),
        ("what is the color of the circle?", "red", "the color of the circle is red."),
        ("what is the teal shape?", "triangle", "the teal shape is a triangle."),
        ("what shape is in the image?", "circle", "a circle is in the image."),
        ("what shape does the image contain?", "circle", "the image contains a circle."),
        ("what shape is present?", "circle", "a circle is present."),
        ("is there a red shape?", "no", "there is no red shape."),
        ("is there a red shape in the image?", "yes", "there is a red shape in the image."),
        ("is there not a circle?", "yes", "there is no circle."),
        ("is there not a circle in the image?", "no", "there is a circle in the image."),
        ("is a red shape present?", "no", "no red shape is present."),
        ("is no red shape present?", "yes", "no red shape is present."),
        ("is no circle present?", "no", "a circle is present."),
        ("does the image contain a circle?", "no", "the image does not contain a circle."),
        ("does the image not contain a gray shape?", "no", "the image contains a gray shape."),
    ],
)
def test_a_question_and_its_answer_make_a_statement(question, said, stated):
    assert statement(question, said) == stated


def test_every_statement_is_true_of_its_picture():
    """All statements that affirm a colour or a shape agree about a picture, and none denies what another affirms."""
    affirmed, denied = {}, {}
    for sample in easy_vqa("test", form="sentences"):
        words = set(answer(sample).rstrip(".").split())
        book = denied if words & {"no", "not"} else affirmed
        book.setdefault(sample.pictures[0], set()).update(words & {*COLOURS, *SHAPES})
    assert len(affirmed) > 900
    assert all(len(names & set(COLOURS)) <= 1 and len(names & set(SHAPES)) <= 1 for names in affirmed.values())
    assert not any(affirmed.get(picture, set()) & names for picture, names in denied.items())


def test_affirmations_are_the_sentences_that_deny_nothing():
    sentences = easy_vqa("test", form="sentences")
    wanted = [sample.id for sample in sentences if not {"no", "not"} & set(answer(sample).split())]
    affirmed = easy_vqa("test", form="affirmations")
    assert [sample.id for sample in affirmed] == wanted
    assert len(easy_vqa("test", form="affirmations", limit=50)) == 50
    with pytest.raises(ValueError, match=f"has 0 to {len(wanted)} affirmations"):
        easy_vqa("test", form="affirmations", limit=len(wanted) + 1)


def test_in_statements_the_affirmed_names_are_visual():
    for sample in easy_vqa("test", form="sentences", limit=300):
        kinds = {answer(sample)[span.start : span.end]: span.kind for span in sample.spans}
        names = {word for word in kinds if word in COLOURS + SHAPES}
        visual = {word for word, kind in kinds.items() if kind == "visual"}
        assert visual == (set() if {"no", "not"} & set(kinds) else names)
        assert sum(span.end - span.start for span in sample.spans) == len(answer(sample).replace(" ", ""))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "validation"}, "split='validation': wanted one of train, test"),
        ({"form": "poems"}, "form='poems': wanted one of questions, sentences"),
        ({"split": "test", "limit": 9674}, "limit=9674: easy_vqa test has 0 to 9673"),
        ({"limit": -1}, "limit=-1"),
    ],
)
def test_a_wrong_setting_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        easy_vqa(**wrong)


def test_an_unknown_question_or_answer_is_refused():
    with pytest.raises(ValueError, match="worded like no question"):
        statement("how many shapes are there?", "one")
    with pytest.raises(ValueError, match="wanted yes or no"):
        statement("is there a circle?", "maybe")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(ImportError, match=r"contralign\[sets\]"):
        easy_vqa("test")


def test_easy_vqa_is_a_registered_set():
    assert SETS["easy_vqa"] is easy_vqa
