import base64
import io

import pytest
from PIL import Image
from worlds.tiny_worlds import coloured_samples

from contralign.analysis.caption_delta import CaptionDelta, Piece
from contralign.analysis.gallery import gallery_samples, png_base64, read_gallery, write_gallery
from contralign.data.records.messages import IMAGE, Sample, Turn

SAMPLES = coloured_samples(3)


def caption(sample):
    return CaptionDelta(id=sample.id, pieces=(Piece(turn=1, text=sample.turns[1].text),))


def opened(png):
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_captions_and_answers_find_their_sample():
    shown = gallery_samples(SAMPLES, [caption(SAMPLES[2]), caption(SAMPLES[0])], ["zero", "one", "two"])
    assert [(one.caption.id, one.said) for one in shown] == [("c0", "zero"), ("c2", "two")]
    assert shown[0].requests == ("say it",)
    assert opened(shown[0].pictures[0]).getpixel((0, 0)) == SAMPLES[0].pictures[0].getpixel((0, 0))


def test_every_answer_has_its_request():
    turns = (Turn("system", "be kind"), Turn("user", f"{IMAGE}\na?"), Turn("assistant", "b"))
    turns += (Turn("user", "c?"), Turn("assistant", "d"))
    sample = Sample("talk", turns, SAMPLES[0].pictures)
    (shown,) = gallery_samples([sample], [CaptionDelta(id="talk", pieces=())], ["x"])
    assert shown.requests == ("a?", "c?")


def test_large_pictures_are_scaled_down_and_the_original_is_not():
    picture = Image.new("RGB", (1000, 500), "red")
    assert opened(png_base64(picture)).size == (384, 192)
    assert picture.size == (1000, 500)
    assert opened(png_base64(Image.new("RGB", (64, 64)))).size == (64, 64)


def test_file_round_trip_changes_nothing(tmp_path):
    shown = gallery_samples(SAMPLES, [caption(sample) for sample in SAMPLES], ["a", "<b>", "é\n"])
    write_gallery(tmp_path / "gallery.jsonl", shown)
    assert read_gallery(tmp_path / "gallery.jsonl") == shown


def test_refuses_other_numbers_of_answers():
    with pytest.raises(ValueError, match="zip"):
        gallery_samples(SAMPLES, [], ["one"])
