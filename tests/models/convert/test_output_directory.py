import pytest

from contralign.models.convert import ConversionError
from contralign.models.convert.output_directory import atomic_directory, check_output_directory


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_gets_its_name_only_when_it_is_whole(tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "old").write_text("old")

    def write(fails: bool) -> None:
        with atomic_directory(out) as folder:
            (folder / "new").write_text("new")
            if fails:
                raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write(fails=True)
    assert out.exists() == there and (out / "old").exists() == there
    write(fails=False)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path):
    with (
        pytest.raises(ConversionError, match=r"takes 1048576\.0 GiB and the disk has"),
        atomic_directory(tmp_path / "out", 2**50),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["", "source", "a/source"])
def test_a_source_is_never_written_over(tmp_path, inside):
    source = tmp_path / inside
    source.mkdir(parents=True, exist_ok=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConversionError, match="is or holds the source"):
        check_output_directory(tmp_path, source, overwrite=True)
