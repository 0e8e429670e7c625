import random

from contralign.data.sets.emoji.emoji_remarks import PEOPLE, PLACES, remark


def test_a_remark_is_a_sentence_that_names_somebody():
    for seed in range(200):
        said = remark(random.Random(seed))
        assert said == said.lower() and said.endswith(".")
        assert said.split()[0] in PEOPLE


def test_remarks_hardly_repeat():
    rng = random.Random(0)
    assert len({remark(rng) for _ in range(500)}) > 400


def test_nobody_and_no_place_is_listed_twice():
    assert len(set(PEOPLE)) == len(PEOPLE) == 40 and len(set(PLACES)) == len(PLACES) == 40
