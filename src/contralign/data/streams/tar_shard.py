"""Records of a tar archive, as webdataset lays them out: KEY.json and its pictures KEY.jpg, KEY.0.png … side by side.

Only headers are read here, and nothing is ever unpacked: what a record holds is remembered as places in the file.
"""

from __future__ import annotations

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
    """The records of an archive, in its order; in the place of what cannot be one, what is wrong with it.

    Members that follow each other and share a key are one record; the key is the name up to the first dot behind the
    last slash. Behind a broken header nothing can be found, so the rest of the archive is one fault.

    Args:
        path: a plain tar archive; packed ones cannot be read at a place.
    """
    for name, members in groupby(_members(path), key=lambda found: _name(path, found)):
        yield _record(name, list(members))


def _name(path: Path, found: _Keyed | BadRecord) -> str:
    """What is named alike belongs together; a fault stands alone."""
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
    """(key, ending, place) of every file; a fault in the place of a member, or of the rest of the archive.

    The record that an archive breaks off in, or behind, may lack members: the fault has its name, and so its place.
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
    """Whether an archive ends where no header follows: with a block of zeros."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _broken_off(last: str, where: str) -> BadRecord:
    return BadRecord("cut_off", f"the archive is cut off or damaged {where}; this record and the rest are lost", last)
