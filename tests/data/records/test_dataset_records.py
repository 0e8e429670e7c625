import datasets
import pytest

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.dataset_records import dataset_records
from contralign.data.records.images import open_image


def test_pictures_of_both_kinds_of_column_are_opened_from_the_set(red, blue):
    features = datasets.Features({"one": datasets.Image(), "many": datasets.List(datasets.Image())})
    rows = datasets.Dataset.from_dict({"one": [red, None], "many": [[blue, red], []]}, features=features)
    (name, first), (_, second) = dataset_records(rows, None)
    assert name == "row 0"
    assert open_image(first["one"]) == red
    assert [open_image(picture) for picture in first["many"]] == [blue, red]
    assert second == {"one": None, "many": []}


@pytest.mark.parametrize(
    ("name", "reason"), [("good.png", None), ("../secret.png", "outside_root"), ("x.png", "missing")]
)
def test_a_set_that_holds_file_names_is_kept_under_the_root(name, reason, image_root):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [str(image_root / name)]}, features=features)
    (_, record), *_ = dataset_records(rows, image_root)
    if reason is None:
        assert open_image(record["image"]).size == (8, 6)
        return
    with pytest.raises(BadRecord, match=reason):
        open_image(record["image"])


def test_file_names_in_a_set_need_an_image_root(image_root):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [str(image_root / "good.png")]}, features=features)
    (_, record), *_ = dataset_records(rows, None)
    with pytest.raises(BadRecord, match="set image_root"):
        open_image(record["image"])
