import pytest

from contralign.data.sets.scenes.glyphs import (
    GLYPH_SIDE,
    LETTER_ROWS,
    MAX_GLYPHS,
    MIN_DISTANCE,
    glyph_bitmap,
    letter_bitmap,
    named_glyphs,
    pseudo_words,
)


def distance(first, second):
    return sum(a != b for row, other in zip(first, second, strict=True) for a, b in zip(row, other, strict=True))


def test_every_sign_has_a_name_of_its_own_and_dots_of_its_own():
    glyphs = named_glyphs(MAX_GLYPHS)
    assert len({glyph.name for glyph in glyphs}) == len({glyph.bitmap for glyph in glyphs}) == MAX_GLYPHS
    assert all(len(row) == len(glyph.bitmap) == GLYPH_SIDE for glyph in glyphs for row in glyph.bitmap)
    bitmaps = [glyph.bitmap for glyph in glyphs[:150]]
    assert min(distance(a, b) for n, a in enumerate(bitmaps) for b in bitmaps[:n]) >= MIN_DISTANCE


def test_fewer_signs_are_the_first_of_more():
    assert named_glyphs(300)[:7] == named_glyphs(7)
    assert [glyph.name for glyph in named_glyphs(3)] == ["terobi", "rarime", "molopo"]


def test_a_sign_is_found_by_its_name():
    glyph = named_glyphs(20)[13]
    assert glyph_bitmap(glyph.name) == glyph.bitmap
    with pytest.raises(ValueError, match="no sign is called 'lamp'"):
        glyph_bitmap("lamp")


def test_letters_and_digits_can_be_told_apart():
    bitmaps = [letter_bitmap(character) for character in LETTER_ROWS]
    assert len(bitmaps) == 36 == len(set(bitmaps))
    assert letter_bitmap("l") == ("100", "100", "100", "100", "111")
    assert letter_bitmap("1") == ("010", "110", "010", "010", "111")


def test_a_character_without_bitmap_is_refused():
    with pytest.raises(ValueError, match="no bitmap for 'L'"):
        letter_bitmap("L")


@pytest.mark.parametrize("count", [-1, 0, 1, MAX_GLYPHS + 1])
def test_an_impossible_number_of_signs_is_refused(count):
    with pytest.raises(ValueError, match=f"glyphs={count}: wanted 2 to"):
        named_glyphs(count)


def test_pseudo_words_differ_and_repeat():
    words = pseudo_words(200, syllables=2, seed="people", vowel_first=True)
    assert len(set(words)) == 200
    assert words == pseudo_words(200, syllables=2, seed="people", vowel_first=True)
    assert all(len(word) == 5 and word[0] in "aeiou" for word in words)
    assert words != pseudo_words(200, syllables=2, seed="others", vowel_first=True)


def test_more_pseudo_words_than_syllables_allow_are_refused():
    with pytest.raises(ValueError, match="count=71"):
        pseudo_words(71, syllables=1, seed="people")
