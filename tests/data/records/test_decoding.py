"""The model sees what a viewer shows; only raster formats are read; a damaged picture is one named error."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.decoding import FORMATS_VARIABLE, Undecodable, open_header, picture_formats, to_rgb
from contralign.data.records.images import as_image, check_image, open_image


def photo():
    picture = Image.new("RGB", (40, 20), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 20, 10))
    return picture


def encoded(picture, kind, **settings):
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_file_and_of_a_cell_is_applied(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(), kind, exif=exif)
    (tmp_path / "phone.img").write_bytes(content)
    with Image.open(io.BytesIO(content)) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert shown.shape == ((40, 20, 3) if orientation > 4 else (20, 40, 3))
    for picture in ("phone.img", {"bytes": content}, {"path": "phone.img"}, Image.open(io.BytesIO(content))):
        assert np.array_equal(np.asarray(open_image(as_image(picture, tmp_path))), shown)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_ignored_as_viewers_do(tmp_path):
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0garbage", b"\0" * 30):
        content = encoded(photo(), "JPEG", exif=exif)
        assert to_rgb(open_header(io.BytesIO(content))).size == (40, 20)


def grey(values, dtype):
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        (grey([0, 25700, 65535], np.uint16), [0, 100, 255]),
        (grey([0, 25700, 65535], np.int32), [0, 100, 255]),
        (grey([0, 100, 255], np.int32), [0, 100, 255]),
        (grey([0, 2**30, 2**31 - 1], np.int32), [0, 127, 255]),
        (grey([0, 0.5, 1], np.float32), [0, 128, 255]),
        (grey([0, 100, 255], np.float32), [0, 100, 255]),
        (grey([0, 25700, 65535], np.float32), [0, 100, 255]),
    ],
)
def test_grey_of_more_than_eight_bits_is_scaled(picture, shown):
    for source in (picture, open_header(io.BytesIO(encoded(picture, "TIFF")))):
        assert [to_rgb(source).getpixel((x, 0)) for x in range(3)] == [(value,) * 3 for value in shown]


def test_sixteen_bit_png_is_scaled():
    source = open_header(io.BytesIO(encoded(grey([0, 25700, 65535], np.uint16), "PNG")))
    assert [to_rgb(source).getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0])
def test_grey_that_no_viewer_could_show_is_a_bad_record(value):
    with pytest.raises(BadRecord, match=r"NaN or infinite|grey values run from -1"):
        open_image(grey([0.5, value], np.float32))


OTHERS = [
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) (w) file\nshowpage\n",
    b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    b"8BPS\0\1" + b"\0" * 40,
    b"SIMPLE  =                    T" + b" " * 2850,
    b"\xd7\xcd\xc6\x9a" + b"\0" * 40,
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"#define a_width 2\n#define a_height 2\nstatic char a_bits[] = {0x00};",
    b"",
    b"\0",
]


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("name", ["x.png", "x.eps"])
def test_what_is_no_raster_picture_is_a_bad_record_whatever_its_name(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    for picture in (name, {"bytes": content}):
        with pytest.raises(BadRecord, match="corrupt_picture"):
            as_image(picture, tmp_path)


def test_formats_may_be_fewer(monkeypatch):
    content = encoded(photo(), "GIF")
    assert open_header(io.BytesIO(content)).format == "GIF"
    monkeypatch.setenv(FORMATS_VARIABLE, "jpeg, PNG")
    assert picture_formats() == ["JPEG", "PNG"]
    with pytest.raises(Undecodable):
        open_header(io.BytesIO(content))
    monkeypatch.setenv(FORMATS_VARIABLE, "EPS")
    with pytest.raises(ValueError, match="'EPS': wanted some of JPEG"):
        picture_formats()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_damaged_pictures_are_shown_or_named(kind):
    if kind not in picture_formats():
        pytest.skip(f"this Pillow has no {kind}")
    content, draw, named = encoded(photo(), kind), random.Random(kind), 0
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        cut = changed[: draw.randrange(len(changed))] if draw.random() < 0.3 else changed
        try:
            shown = open_image(as_image({"bytes": bytes(cut)}, None))
        except BadRecord as error:
            assert len(str(error)) < 400
            named += 1
        else:
            assert shown.mode == "RGB"
    assert named


def test_a_check_decodes_nothing(monkeypatch, tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(photo(), "PNG"))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    check_image(tmp_path / "x.png")
