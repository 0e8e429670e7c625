"""The manifest of a checkpoint: sizes and digests of its files, written last, so that damage is found on resume.

Every byte counts: one bit that has changed in any file, the manifest among them, is damage. The digest is XXH3 of 128
bits, which finds accidents at the speed of memory; it does not keep out somebody who means harm.
"""

import functools
import json
import logging
import mmap
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash
from accelerate import PartialState
from accelerate.utils import gather_object

from contralign.atomic_write import remove, sync
from contralign.checkpoints.saving import write_text

logger = logging.getLogger(__name__)

MANIFEST = "whole.json"
STAGING = "_writing"
"""Folder beside the checkpoints for those being written or removed. The hub upload ignores `_*`."""
DAMAGED_PREFIX = "damaged-"
STATE_FILES = "exact_state_*.safetensors"
"""What a checkpoint of `ResumingTrainer` has besides the plain Trainer's files; it has a manifest, too."""
_STATE = "trainer_state.json"
_PLAIN = ("optimizer*", "scheduler.pt", "rng_state*.pth")
"""What a checkpoint of the plain Trainer holds besides weights, of one process or of FSDP."""
_DIGEST = re.compile(r'\{"digest": "([0-9a-f]{32})",\n')
"""First line of a manifest: the digest of all its other lines."""


class DamagedManifest(ValueError):
    """A manifest that does not hold what was written."""


def write_manifest(folder: Path, processes: int, only_weights: bool) -> None:
    """Fsync a checkpoint and list all its files in its manifest; called last.

    The digests are made on other threads while the disk is waited for.

    Args:
        folder: of the checkpoint.
        processes: that trained it.
        only_weights: optimizer and random states were not saved, so that no run can resume from it exactly.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    with ThreadPoolExecutor() as threads:
        digests = threads.map(digest_of, paths)
        sync(folder)
        files = {
            str(path.relative_to(folder)): [path.stat().st_size, digest]
            for path, digest in zip(paths, digests, strict=True)
        }
    content = {"processes": processes, "only_weights": only_weights, "files": files}
    lines = json.dumps(content, indent=1).removeprefix("{\n") + "\n"
    write_text(folder / MANIFEST, f'{{"digest": "{xxhash.xxh3_128_hexdigest(lines.encode())}",\n{lines}')


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `write_manifest` wrote; None for a checkpoint of the plain Trainer, which has none.

    Raises:
        DamagedManifest: it does not hold what was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    written = path.read_bytes()
    head, newline, lines = written.partition(b"\n")
    digest = _DIGEST.fullmatch((head + newline).decode("utf-8", errors="replace"))
    if digest is None or xxhash.xxh3_128_hexdigest(lines) != digest[1]:
        raise DamagedManifest(f"{MANIFEST} does not hold what was written")
    return json.loads(written)


def checkpoint_damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, as text; None if nothing is. Every file is read.

    A checkpoint of the plain Trainer has no manifest: whether all its files are there is all that can be told.
    """
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return _damage(folder, tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats))


@functools.lru_cache(maxsize=64)
def _damage(folder: Path, files: tuple[tuple[Path, int, int, int], ...]) -> str | None:
    """See `checkpoint_damage`; files that are as they were are read once in a process.

    Args:
        folder: of the checkpoint.
        files: of it: path, bytes, time of the last change, inode.
    """
    try:
        manifest = read_manifest(folder)
    except DamagedManifest as error:
        return str(error)
    if manifest is None:
        return _damage_without_manifest(folder)
    for name, (wanted, _) in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted:
            return f"{name} has {path.stat().st_size} of {wanted} bytes"
    with ThreadPoolExecutor() as threads:
        found = threads.map(lambda name: digest_of(folder / name), manifest["files"])
        for (name, (_, wanted)), digest in zip(manifest["files"].items(), found, strict=True):
            if digest != wanted:
                return f"{name} does not hold what was written"
    return None


def _damage_without_manifest(folder: Path) -> str | None:
    if any(folder.glob(STATE_FILES)):
        return f"{MANIFEST} is missing"
    if not _is_json(folder / _STATE):
        return f"it has no {_STATE} that can be read, which is written last"
    sharded = [path.name for path in folder.iterdir() if path.is_dir()]
    absent = [name for name in _PLAIN if not any(folder.glob(name))]
    return (
        f"it has no {' and no '.join(absent)}; was it saved with save_only_model?" if absent and not sharded else None
    )


def resume_obstacle(folder: Path) -> str | None:
    """Why a run cannot resume exactly from a checkpoint, as text; None if it can."""
    found = checkpoint_damage(folder)
    if found is None and (read_manifest(folder) or {}).get("only_weights"):
        return "it holds weights alone (save_only_model)"
    return found


def digest_of(path: Path) -> str:
    """Digest of a whole file."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                digest.update(view)
    return digest.hexdigest()


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, whole or not, newest first."""
    if not folder.is_dir():
        return []
    found = [re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.iterdir() if path.is_dir()]
    return sorted((int(match[1]) for match in found if match), reverse=True)


def newest_whole_step(folder: Path, at_most: int | None = None) -> int | None:
    """The newest step whose checkpoint a run can resume from; a warning names newer ones that are passed over.

    Args:
        folder: of the checkpoints.
        at_most: look at no newer step.
    """
    for step in checkpoint_steps(folder):
        if at_most is None or step <= at_most:
            found = resume_obstacle(folder / f"checkpoint-{step}")
            if found is None:
                return step
            logger.warning("%s is passed over: %s", folder / f"checkpoint-{step}", found)
    return None


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that a run can resume from, the same on every rank. Every rank must call this.

    Machines that do not share the folder hold different parts; the checkpoint is whole on all of them.
    """
    state, at_most = PartialState(), None
    looks = state.is_local_main_process
    while True:
        mine: list[Sequence[int | None]] = [(newest_whole_step(folder, at_most),) if looks else ()]
        everybody = gather_object(mine) if state.num_processes > 1 else mine
        steps = {step for rank in everybody for step in rank}
        if None in steps:
            return None
        if len(steps) == 1:
            return folder / f"checkpoint-{steps.pop()}"
        at_most = min(step for step in steps if step is not None)


def put_damaged_aside(folder: Path, after: int = 0) -> None:
    """Rename damaged checkpoints to damaged-checkpoint-N: their names will be needed again.

    Args:
        folder: of the checkpoints.
        after: the step that a run resumes from: older checkpoints are left where they are, and are not read.
    """
    for step in checkpoint_steps(folder):
        if step > after and checkpoint_damage(folder / f"checkpoint-{step}") is not None:
            aside = folder / f"{DAMAGED_PREFIX}checkpoint-{step}"
            remove(aside)
            os.replace(folder / f"checkpoint-{step}", aside)


def _is_json(path: Path) -> bool:
    try:
        return path.is_file() and isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False
