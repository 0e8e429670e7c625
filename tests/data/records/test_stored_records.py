import datasets
import pytest

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.pictures import open_picture
from contralign.data.records.stored_records import stored_records


def test_pictures_of_both_kinds_of_column_are_opened_from_the_set(red, blue):
    features = datasets.Features({"one": datasets.Image(), "many": datasets.List(datasets.Image())})
    rows = datasets.Dataset.from_dict({"one": [red, None], "many": [[blue, red], []]}, features=features)
    (name, first), (_, second) = stored_records(rows, None)
    assert name == "row 0"
    assert open_picture(first["one"]) == red
    assert [open_picture(picture) for picture in first["many"]] == [blue, red]
    assert second == {"one": None, "many": []}


@pytest.mark.parametrize(
    ("name", "reason"), [("good.png", None), ("../secret.png", "outside_root"), ("x.png", "missing")]
)
def test_a_set_that_holds_file_names_is_kept_under_the_root(name, reason, image_root):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [str(image_root / name)]}, features=features)
    (_, record), *_ = stored_records(rows, image_root)
    if reason is None:
        assert open_picture(record["image"]).size == (8, 6)
        return
    with pytest.raises(BadRecord, match=reason):
        open_picture(record["image"])


def test_file_names_in_a_set_need_an_image_root(image_root):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [str(image_root / "good.png")]}, features=features)
    (_, record), *_ = stored_records(rows, None)
    with pytest.raises(BadRecord, match="set image_root"):
        open_picture(record["image"])
