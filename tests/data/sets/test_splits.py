"""What the built-in sets share: the split of a text, choices and limited draws."""

import pytest

from contralign.data.sets.splits import HELDOUT_SHARE, Split, check_choice, draw_limited, of_groups, split_of


def test_a_fifth_of_all_texts_is_held_out_whatever_the_run():
    splits = [split_of(f"text {number}") for number in range(5000)]
    assert splits.count("heldout") / 5000 == pytest.approx(1 / HELDOUT_SHARE, abs=0.03)
    assert (split_of("bell"), split_of("cat"), split_of("dog")) == ("train", "train", "heldout")


def test_a_draw_is_repeated_by_its_seed_and_no_limit_keeps_the_order():
    found = list(range(50))
    first, again, other = (draw_limited(found, 10, seed, "set", "train") for seed in (1, 1, 2))
    assert first == again != other and len(set(first)) == 10
    assert draw_limited(found, None, 1, "set", "train") is found
    with pytest.raises(ValueError, match="limit=51: set train has 0 to 50 pictures to give"):
        draw_limited(found, 51, 1, "set", "train")


def test_unknown_choices_and_groups_are_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="split='test': wanted one of train, heldout"):
        check_choice("split", "test", Split)
    with pytest.raises(ValueError, match=r"groups=\['x'\]: wanted one or more of a, b"):
        of_groups(["a1", "b1"], lambda one: one[0], "x", "groups")
    assert of_groups(["a1", "b1"], lambda one: one[0], ["b"], "groups") == ["b1"]
    assert of_groups(["a1", "b1"], lambda one: one[0], None, "groups") == ["a1", "b1"]
