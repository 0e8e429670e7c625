import math
from collections import Counter
from itertools import islice

import pytest

from contralign.data.records.swap_noise import swap_images
from contralign.data.sets import SETS
from contralign.data.sets.scenes.scenes import scenes, scenes_with_truth, split_of_scene
from contralign.models.small.tiny import train_tokenizer


def words_of(sample, kind):
    return [sample.turns[span.turn].text[span.start : span.end] for span in sample.spans if span.kind == kind]


def pixels(sample):
    return sample.pictures[0].tobytes()


def test_the_same_seed_gives_the_same_samples_and_another_seed_others():
    first, again, other = (scenes("train", 30, seed=seed, task="mixed", contradictions=0.2) for seed in (5, 5, 6))
    assert [(s.turns, s.spans, pixels(s)) for s in first] == [(s.turns, s.spans, pixels(s)) for s in again]
    assert not {pixels(sample) for sample in first} & {pixels(sample) for sample in other}


def test_a_longer_list_begins_with_the_shorter_one():
    assert [s.turns for s in scenes("train", 40)[:10]] == [s.turns for s in scenes("train", 10)]


def test_ids_are_unique_and_name_the_split():
    samples = scenes("heldout", 50, seed=3)
    assert samples[7].id == "scenes/heldout/3/7"
    assert len({sample.id for sample in samples}) == 50


def test_no_combination_is_in_both_splits_whatever_the_seed():
    def combinations(split, seed):
        return {
            tuple(item.words for item in scene.items)
            for _, scene in scenes_with_truth(split, 300, seed=seed, things=["shapes"], items=1)
        }

    train, heldout = combinations("train", 0) | combinations("train", 1), combinations("heldout", 2)
    assert len(train) > 60 and len(heldout) > 10  # of the 96 there are
    assert not train & heldout


def test_no_new_sort_of_combination_is_in_both_splits():
    def combinations(split, seed, **settings):
        drawn = scenes_with_truth(split, 400, seed=seed, items=1, positions=True, hallucinations=0.5, **settings)
        return {tuple(item.words for item in scene.items) for _, scene in drawn}

    for settings in ({"things": ["shapes"], "counts": 8}, {"things": ["code"]}, {"things": ["chart"]}):
        train, heldout = combinations("train", 0, **settings), combinations("heldout", 1, **settings)
        assert len(train) > 130 and len(heldout) > 30
        assert not train & heldout


def test_what_is_said_changes_no_picture():
    plain = scenes("train", 30, items=4)
    harder = scenes(
        "train",
        30,
        items=4,
        positions=True,
        asides=0.5,
        fillers=3,
        filler_names=4,
        boilerplate=2,
        contradictions=0.5,
        contradicted="position",
        hallucinations=0.5,
    )
    assert [pixels(sample) for sample in plain] == [pixels(sample) for sample in harder]
    assert all(before.turns != after.turns for before, after in zip(plain, harder, strict=True))


def test_heldout_codes_are_made_of_tokens_that_training_knows():
    settings = {"things": ["code", "sign"], "items": 4, "task": "list", "fillers": 0}
    texts = [turn.text for sample in scenes("train", 300, **settings) for turn in sample.turns]
    tokenizer = train_tokenizer(texts, vocab_size=4096, max_length=256)
    known = {token for text in texts for token in tokenizer.tokenize(text)}
    told = 0
    for sample in scenes("heldout", 200, **settings):
        text = sample.turns[1].text
        for span in sample.spans:
            character = text[span.start : span.end]
            if span.kind == "visual" and len(character) == 1:
                assert tokenizer.tokenize(f" {character}") == [f"\u0120{character}"]
                assert f"\u0120{character}" in known
                told += 1
    assert told > 800


def test_fold_holds_out_a_fifth():
    drawn = [scene for split in ("train", "heldout") for _, scene in scenes_with_truth(split, 100)]
    assert [split_of_scene(scene) for scene in drawn] == ["train"] * 100 + ["heldout"] * 100


def test_visual_words_are_what_the_picture_shows():
    for sample, scene in scenes_with_truth("train", 200):
        assert words_of(sample, "visual") == [word for item in scene.items for word in item.words]


def test_contradictory_words_are_never_what_the_picture_shows():
    for sample, scene in scenes_with_truth("train", 200, items=1, contradictions=1.0):
        (false,) = words_of(sample, "contradictory")
        assert false not in scene.items[0].words


def test_mixed_samples_are_captions_and_questions_about_equally():
    samples = scenes("train", 300, task="mixed", rounds=2)
    dialogues = sum(len(sample.turns) == 4 for sample in samples)
    assert 110 < dialogues < 190
    assert all(len(sample.turns) in (2, 4) for sample in samples)


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"fillers": 0}, 0.30),
        ({"fillers": 0, "asides": 1.0}, 0.24),
        ({"fillers": 2}, 0.20),
        ({"fillers": 2, "filler_names": 10}, 0.13),
        ({"fillers": 0, "boilerplate": 8}, 0.07),
        ({"fillers": 6, "filler_names": 10}, 0.06),
    ],
)
def test_the_share_of_visual_words_is_what_the_module_says(settings, share):
    demo = {"items": 4, "glyphs": 300, "things": ["sign", "sign", "number", "shapes"]}
    kinds = Counter(span.kind for sample in scenes("train", 300, **demo, **settings) for span in sample.spans)
    assert abs(kinds["visual"] / (kinds.total() + 300) - share) < 0.01  # every caption has an end token


@pytest.mark.parametrize(("thing", "least"), [("sign", 5.2), ("word", 5.2), ("number", 4.3)])
def test_names_words_and_numbers_have_the_entropy_that_lets_weights_vary(thing, least):
    told = Counter(
        words_of(sample, "visual")[-1] for sample in islice(scenes("train", 8000, things=[thing], items=1), 8000)
    )
    entropy = -sum(n / 8000 * math.log(n / 8000) for n in told.values())
    assert entropy > least


def test_colours_alone_would_not_do():
    told = Counter(words_of(sample, "visual")[0] for sample in scenes("train", 2000, things=["sign"], items=1))
    entropy = -sum(n / 2000 * math.log(n / 2000) for n in told.values())
    assert 2.0 < entropy <= math.log(8)


def test_pictures_can_be_swapped():
    samples, swapped = swap_images(scenes("train", 100), fraction=0.3, seed=0)
    moved = [sample for sample in samples if sample.id in swapped]
    assert len(moved) == 30
    assert all(before.turns == after.turns for before, after in zip(scenes("train", 100), samples, strict=True))


def test_scenes_is_a_registered_set():
    assert SETS["scenes"] is scenes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "test"}, "split='test': wanted one of train, heldout"),
        ({"count": -1}, "count=-1"),
        ({"things": []}, r"things=\[\]"),
        ({"things": ["dog"]}, "'dog'.*wanted one or more of sign"),
        ({"items": 0}, "items=0: wanted 1 to 4"),
        ({"items": 5}, "items=5"),
        ({"glyphs": 1}, "glyphs=1"),
        ({"glyphs": 10_000}, "glyphs=10000"),
        ({"task": "song"}, "task='song'"),
        ({"task": "question", "rounds": 4}, "rounds=4: wanted 1 to items"),
        ({"rounds": 0}, "rounds=0"),
        ({"rounds": 2}, "rounds=2 has no effect on task='caption'"),
        ({"fillers": -1}, "fillers=-1"),
        ({"filler_choices": 0}, "filler_choices=0"),
        ({"contradictions": 1.5}, r"contradictions=1\.5"),
        ({"hallucinations": -0.1}, r"hallucinations=-0\.1: wanted a chance"),
        ({"asides": 2}, "asides=2: wanted a chance"),
        ({"things": ["shapes"], "counts": 1}, "counts=1: wanted 2 to 8"),
        ({"things": ["shapes"], "counts": 9}, "counts=9"),
        ({"things": ["sign"], "counts": 6}, "counts=6 has no effect without shapes"),
        ({"things": ["code"], "code_length": 5}, "code_length=5: wanted 2 to 4"),
        ({"code_length": 4}, "code_length=4 has no effect without codes"),
        ({"filler_names": -1}, "filler_names=-1"),
        ({"boilerplate": -1}, "boilerplate=-1"),
        ({"fillers": 0, "filler_names": 2}, "filler_names=2 has no effect without fillers"),
        ({"contradictions": 0.1, "contradicted": "taste"}, "contradicted='taste': wanted one of any, name"),
        ({"contradicted": "name"}, "contradicted='name' has no effect without contradictions"),
        ({"contradictions": 0.1, "contradicted": "position"}, "contradicted='position' has no effect"),
        (
            {"things": ["word", "code"], "contradictions": 0.1, "contradicted": "colour"},
            "contradicted='colour' has no effect: nothing of the kind",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        scenes(**{"split": "train", "count": 1} | wrong)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="colors"):
        scenes("train", 1, colors=3)
