import pytest

from contralign.data.sets.packages import DataPackage, MissingPackage


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.delenv("CONTRALIGN_TRIAL", raising=False)
    places = (str(tmp_path / "first"), str(tmp_path / "second"))
    return DataPackage(
        name="trial-data", variable="CONTRALIGN_TRIAL", places=places, wanted=("list.json", "img"), recipe="fetch it"
    )


def unpack(folder):
    (folder / "img").mkdir(parents=True)
    (folder / "list.json").write_text("[]")
    return folder


def test_the_first_place_that_has_it_all_is_taken(package, tmp_path):
    (tmp_path / "first/img").mkdir(parents=True)
    second = unpack(tmp_path / "second")
    assert package.folder() == second
    (tmp_path / "first/list.json").write_text("[]")
    assert package.folder() == tmp_path / "first"


def test_a_root_beats_the_variable_which_beats_the_places(package, tmp_path, monkeypatch):
    told, given = unpack(tmp_path / "told"), unpack(tmp_path / "given")
    unpack(tmp_path / "first")
    monkeypatch.setenv("CONTRALIGN_TRIAL", str(told))
    assert package.folder() == told
    assert package.folder(str(given)) == given


def test_a_missing_package_says_where_it_was_looked_for_and_how_to_get_it(package, tmp_path):
    with pytest.raises(MissingPackage, match=r"trial-data is not in .*first, .*second: wanted") as caught:
        package.folder()
    assert "fetch it" in str(caught.value) and "$CONTRALIGN_TRIAL" in str(caught.value)


def test_a_wrong_root_is_not_made_good_by_another_place(package, tmp_path):
    unpack(tmp_path / "first")
    with pytest.raises(MissingPackage, match="nowhere"):
        package.folder(tmp_path / "nowhere")
