import pytest
from PIL import Image

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import IMAGE, Sample, Span, Turn

ASK, SAY = Turn("user", "What?"), Turn("assistant", "A dog.")
PICTURE = Image.new("RGB", (2, 2))


@pytest.mark.parametrize(
    ("turns", "pictures", "spans", "reason"),
    [
        ((), (), (), "no_turns"),
        ((Turn("system", "x"),), (), (), "no_turns"),
        ((Turn("tool", "x"),), (), (), "wrong_role"),
        ((Turn("user", None),), (), (), "wrong_type"),
        ((SAY, ASK), (), (), "turns_not_alternating"),
        ((ASK, SAY, SAY), (), (), "turns_not_alternating"),
        ((ASK, Turn("system", "x"), SAY), (), (), "turns_not_alternating"),
        ((ASK, SAY), (PICTURE,), (), "picture_count"),
        ((Turn("user", IMAGE), SAY), (), (), "picture_count"),
        ((ASK, SAY), (), (Span(0, 0, 2, "visual"),), "wrong_span"),
        ((ASK, SAY), (), (Span(2, 0, 2, "visual"),), "wrong_span"),
        ((ASK, SAY), (), (Span(1, 0, 7, "visual"),), "wrong_span"),
        ((ASK, SAY), (), (Span(1, 2, 2, "visual"),), "wrong_span"),
        ((ASK, SAY), (), (Span(1, -1, 2, "visual"),), "wrong_span"),
        ((ASK, SAY), (), (Span(1, 0, 2, "seen"),), "wrong_span"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(turns, pictures, spans, reason):
    with pytest.raises(BadRecord) as refusal:
        Sample("s", turns, pictures, spans)
    assert refusal.value.reason == reason


def test_the_words_of_a_marker_are_text():
    sample = Sample("s", (Turn("user", "What is <image>?"), SAY))
    assert sample.pictures == () and "<image>" in sample.turns[0].text
