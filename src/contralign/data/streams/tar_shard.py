"""Records of a tar archive in webdataset's layout: KEY.json and its pictures KEY.jpg, KEY.0.png … side by side.

Only headers are read and nothing is unpacked: a record holds byte ranges of its members.
"""

import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from contralign.data.records.archive_member import ArchiveMember
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.raw_record import TarRecord

PICTURE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")

_Keyed = tuple[str, str, ArchiveMember]


def tar_records(path: Path) -> Iterator[TarRecord | BadRecord]:
    """Yield the records of an archive in order, and a `BadRecord` for what is none.

    Consecutive members with the same key are one record; the key is the name up to the first dot after the last slash.
    After a broken header nothing can be found: the rest of the archive is one `BadRecord`.

    Args:
        path: an uncompressed tar archive; compressed ones have no byte ranges.
    """
    for name, members in groupby(_members(path), key=lambda found: _name(path, found)):
        yield _record(name, list(members))


def _name(path: Path, found: _Keyed | BadRecord) -> str:
    """The name of the record that a member belongs to; a bad member's own."""
    return f"{path.name}:{found[0]}" if isinstance(found, tuple) else found.record


def _record(name: str, members: list[_Keyed | BadRecord]) -> TarRecord | BadRecord:
    texts, pictures = [], []
    for found in members:
        if isinstance(found, BadRecord):
            return found
        _, ending, packed = found
        kind = ending.rpartition(".")[2].lower()
        if ending == "json":
            texts.append(packed)
        elif kind in PICTURE_ENDINGS:
            pictures.append(packed)
        else:
            wanted = f"json and pictures ({', '.join(PICTURE_ENDINGS)})"
            return BadRecord("wrong_member", f"member {packed.name!r}: wanted {wanted}", name)
    if len(texts) != 1:
        return BadRecord("ambiguous" if texts else "missing_key", f"{len(texts)} members .json; wanted one", name)
    return TarRecord(name, texts[0], tuple(pictures))


def _members(path: Path) -> Iterator[_Keyed | BadRecord]:
    """Yield (key, ending, member) of every file, and a `BadRecord` for a bad member or the rest of the archive.

    The record before or in a broken place may lack members, so the `BadRecord` has its name and replaces it.
    """
    last = path.name
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                found = None if member.isdir() else _placed(path, member)
                last = _name(path, found) if isinstance(found, tuple) else path.name
                if member.offset_data + member.size > size:
                    yield _broken_off(last, f"in {member.name!r}")
                    return
                if found is not None:
                    yield found
            if not _ends(path, archive.offset):
                yield _broken_off(last, f"at byte {archive.offset:,}")
    except (tarfile.TarError, EOFError) as error:
        yield _broken_off(last, f"({error})")
    except OSError as error:
        yield BadRecord("unreadable_shard", f"cannot be read: {error}", last)


def _placed(path: Path, member: tarfile.TarInfo) -> _Keyed | BadRecord:
    where = f"{path.name}:{member.name}"
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return BadRecord("unsafe_member", f"member {member.name!r} leads out of the archive", where)
    stem, _, ending = name.name.partition(".")
    if not member.isreg() or member.issparse() or not stem or not ending:
        return BadRecord("wrong_member", f"member {member.name!r}: wanted a plain file named KEY.ENDING", where)
    return str(name.parent / stem), ending, ArchiveMember(path, member.offset_data, member.size, member.name)


def _ends(path: Path, offset: int) -> bool:
    """Whether a block of zeros, the end of an archive, is at `offset`."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _broken_off(last: str, where: str) -> BadRecord:
    return BadRecord("cut_off", f"the archive is cut off or damaged {where}; this record and the rest are lost", last)
