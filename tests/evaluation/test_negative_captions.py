import pytest
from worlds.tiny_worlds import coloured_samples

from contralign.data.records.messages import Sample, Span, Turn
from contralign.data.sets.scenes.scenes import scenes
from contralign.evaluation.negative_captions import caption, negative_captions


def told(name, text, *visual):
    spans = tuple(Span(1, text.index(word), text.index(word) + len(word), "visual") for word in visual)
    return Sample(name, (Turn("user", "what is it?"), Turn("assistant", text)), (), spans)


SAMPLES = [
    told("a", "the dog and the cat on red.", "dog", "cat", "red"),
    told("b", "the polar bear and the cow on blue.", "polar bear", "cow", "blue"),
    told("c", "a picture of the bee on a green ground.", "bee", "green"),
]


def test_random_captions_are_those_of_others_and_all_different():
    samples = coloured_samples(18)
    found = negative_captions(samples, samples, 9, "random", seed=0)
    known = {caption(sample) for sample in samples}
    for sample, texts in zip(samples, found, strict=True):
        assert len(set(texts)) == len(texts) == 9
        assert set(texts) <= known - {caption(sample)}


def test_captions_that_say_the_same_are_one():
    samples = [*coloured_samples(6), *coloured_samples(6)]
    for sample, texts in zip(samples, negative_captions(samples, samples, 5, "random", seed=0), strict=True):
        assert len({*texts, caption(sample)}) == 6
    with pytest.raises(ValueError, match="6 different captions: wanted more than 6; lower k"):
        negative_captions(samples, samples, 6, "random", seed=0)


def test_draws_depend_on_the_seed_and_on_no_other_sample_asked_about():
    samples = coloured_samples(18)
    found = negative_captions(samples, samples, 4, "random", seed=0)
    assert negative_captions(samples[7:9], samples, 4, "random", seed=0) == found[7:9]
    assert negative_captions(samples, samples, 4, "random", seed=1) != found


def test_hard_captions_are_the_own_with_one_visual_word_that_stands_in_such_a_place():
    found = {negative_captions(SAMPLES[:1], SAMPLES, 1, "hard", seed)[0] for seed in range(40)}
    assert {text for (text,) in found} == {
        "the polar bear and the cat on red.",
        "the dog and the cow on red.",
        "the dog and the bee on red.",
        "the dog and the cat on blue.",
    }


def test_all_hard_captions_of_a_picture_change_the_same_word_which_has_enough_others():
    (texts,) = negative_captions(SAMPLES[:1], SAMPLES, 2, "hard", seed=0)
    assert set(texts) == {"the dog and the cow on red.", "the dog and the bee on red."}


def test_every_visual_word_is_as_likely_to_be_the_one():
    many = [told(f"m{number}", f"the {number}dog and the cat on red.", f"{number}dog") for number in range(40)]
    changed = 0
    for seed in range(300):
        ((text,),) = negative_captions(SAMPLES[:1], [*SAMPLES, *many], 1, "hard", seed)
        changed += text.startswith("the dog")
    assert 170 < changed < 230  # two words in three, though there are 40 others of the first


def test_hard_captions_are_no_easier_and_no_harder_to_guess_than_chance():
    """Whoever has a favourite word in every place finds the own caption one time in k."""
    samples = scenes("heldout", 400, things=["shapes"], items=1, fillers=0)
    found = negative_captions(samples, samples, 2, "hard", seed=0)
    hits = [min([caption(sample), *texts]) == caption(sample) for sample, texts in zip(samples, found, strict=True)]
    assert sum(hits) / 400 == pytest.approx(1 / 3, abs=0.07)


def test_visual_words_side_by_side_are_told_apart_by_their_neighbours():
    samples = scenes("heldout", 200, things=["shapes"], items=1, fillers=0)
    for sample, texts in zip(samples, negative_captions(samples, samples, 2, "hard", seed=0), strict=True):
        for text in texts:
            own, other = caption(sample).split(), text.split()
            (place,) = [i for i, pair in enumerate(zip(own, other, strict=True)) if pair[0] != pair[1]]
            assert any(caption(known).split()[place] == other[place] for known in samples)


def test_only_the_last_answer_is_changed():
    turns = (Turn("user", "?"), Turn("assistant", "the dog."), Turn("user", "?"), Turn("assistant", "the cat."))
    sample = Sample("d", turns, (), (Span(1, 4, 7, "visual"), Span(3, 4, 7, "visual")))
    known = [sample, told("e", "the cow.", "cow")]
    assert negative_captions([sample], known, 1, "hard", seed=0) == [("the cow.",)]


def test_a_sample_without_enough_visual_words_is_named():
    with pytest.raises(ValueError, match="'c' has no visual word with 3 others for its place, at most 2: lower k"):
        negative_captions(SAMPLES[2:], SAMPLES, 3, "hard", seed=0)
    with pytest.raises(ValueError, match="'f' has no visual word with 1 others"):
        negative_captions([told("f", "nothing.")], SAMPLES, 1, "hard", seed=0)


def test_wrong_settings_and_samples_are_refused():
    with pytest.raises(ValueError, match="negatives='soft': wanted one of random, hard"):
        negative_captions(SAMPLES, SAMPLES, 1, "soft", seed=0)
    with pytest.raises(ValueError, match="'g' ends without an answer"):
        caption(Sample("g", (Turn("user", "what is it?"),)))
