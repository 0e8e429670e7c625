import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.images import DatasetImage, as_image, check_image, contents, locate_image, open_image


def test_a_picture_is_found_under_its_root_through_inward_links(image_root):
    assert locate_image("good.png", image_root) == (image_root / "good.png").resolve()
    assert locate_image("sub/../inward.png", image_root) == (image_root / "good.png").resolve()


def test_a_root_that_is_itself_a_link_is_fine(image_root, tmp_path):
    (tmp_path / "link").symlink_to(image_root)
    assert locate_image("good.png", tmp_path / "link").is_file()


def test_a_linked_folder_that_leads_out_is_refused(image_root, tmp_path):
    (image_root / "away").symlink_to(tmp_path)
    with pytest.raises(BadRecord, match="outside_root"):
        locate_image("away/secret.png", image_root)


def test_a_root_whose_name_begins_like_anothers_is_not_it(image_root, tmp_path):
    (tmp_path / "images2").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "images2" / "a.png")
    with pytest.raises(BadRecord, match="outside_root"):
        locate_image("../images2/a.png", image_root)


def test_checking_reads_the_header_only(image_root):
    check_image(image_root / "cut.png")
    with pytest.raises(BadRecord, match="cannot be decoded"):
        open_image(image_root / "cut.png")


def test_a_picture_that_went_away_is_missing(image_root):
    picture = as_image("good.png", image_root)
    (image_root / "good.png").unlink()
    with pytest.raises(BadRecord, match="missing_picture"):
        open_image(picture)


def test_transparency_is_laid_on_white(tmp_path):
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 255))
    assert [open_image(clear).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]
    assert open_image(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    palette.info["transparency"] = 0
    assert open_image(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    assert open_image(Image.new(mode, (3, 2))).mode == "RGB"


def test_sixteen_bit_grey_is_scaled():
    grey = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert [open_image(grey).getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]


def test_an_open_picture_is_not_closed_by_a_check(image_root):
    with Image.open(image_root / "good.png") as picture:
        check_image(picture)
        assert open_image(picture).size == (8, 6)


def test_a_bad_record_travels_between_processes_with_its_reason():
    fault = pickle.loads(pickle.dumps(BadRecord("some_reason", "what came", "file[3]")))
    assert (fault.reason, fault.record, str(fault)) == ("some_reason", "file[3]", "file[3]: what came [some_reason]")


def test_a_picture_is_known_by_its_file_wherever_it_lies_and_by_its_pixels_in_memory(image_root):
    path = image_root / "good.png"
    assert contents(path) == path.read_bytes()
    rows = Dataset.from_dict(
        {"image": [{"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": "good.png"}]}
    )
    for row in range(2):
        assert contents(DatasetImage(rows, row, "image", None, image_root)) == path.read_bytes()
    with Image.open(path) as opened:
        pixels = opened.convert("RGB")
    assert contents(pixels) == contents(pixels.copy()) != contents(pixels.transpose(Image.Transpose.TRANSPOSE))
    changed = pixels.copy()
    changed.putpixel((0, 0), (0, 0, 0))
    assert contents(changed) != contents(pixels)


def test_contents_that_are_gone_are_a_missing_picture(image_root):
    with pytest.raises(BadRecord, match="missing_picture"):
        contents(image_root / "gone.png")


def test_a_picture_that_became_a_link_after_the_check_is_not_followed(image_root, tmp_path):
    picture = as_image("good.png", image_root)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 6)).save(secret)
    picture.unlink()
    picture.symlink_to(secret)
    for read in (open_image, contents, check_image):
        with pytest.raises(BadRecord, match=r"leads elsewhere.*outside_root"):
            read(picture)


def test_a_folder_that_became_a_link_after_the_check_is_not_followed(image_root, tmp_path):
    (image_root / "inner").mkdir()
    Image.new("RGB", (8, 6)).save(image_root / "inner" / "x.png")
    picture = as_image("inner/x.png", image_root)
    (image_root / "inner").rename(tmp_path / "elsewhere")
    (image_root / "inner").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadRecord, match="outside_root"):
        open_image(picture)


def test_a_link_of_the_users_own_is_opened(image_root, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(image_root / "good.png")
    assert open_image(link).size == (8, 6)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_named_and_nothing_waits(kind, image_root):
    picture = as_image("good.png", image_root)
    picture.unlink()
    if kind == "fifo":
        os.mkfifo(picture)
    elif kind == "folder":
        picture.mkdir()
    for read in (open_image, contents, check_image):
        with pytest.raises(BadRecord, match="no_file"):
            read(Path("/dev/zero") if kind == "device" else picture)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/9j/4AAQSkZJRgABAQAAAQABAAD" * 4000, "is base64: wanted a file name"),
        ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk", "is base64"),
        ("QUJD" * 300, "is base64"),
        (b"\xff\xd8\xff" * 100_000, "300,000 raw bytes: wanted a file name"),
        ("data:image/png;base64," + "QUJD" * 3000, "wanted a file"),
        ("x" * 5000 + ".png", "cannot be found"),
        (["a"] * 9999, "wanted a file name relative"),
    ],
)
@pytest.mark.parametrize("rooted", [True, False])
def test_what_is_no_file_name_is_said_in_one_short_line(value, said, rooted, image_root):
    with pytest.raises(BadRecord) as refused:
        as_image(value, image_root if rooted else None)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)
    assert said in str(refused.value) or not rooted


def test_no_file_stays_open(image_root):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_image(as_image("good.png", image_root))
        contents(as_image("good.png", image_root))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
