"""The manifest of a checkpoint: sizes and digests of its files, written last, so that damage is found on resume.

The digest is of the whole file up to 4 MiB, beyond that of 64 blocks spread over it. That is cheap, and finds what a
power loss leaves: files that are cut off or full of zeros.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from contralign.atomic_write import remove
from contralign.checkpoints.saving import write_text

logger = logging.getLogger(__name__)

MANIFEST = "whole.json"
STAGING = "_writing"
"""Folder beside the checkpoints for those being written or removed. The hub upload ignores `_*`."""
DAMAGED_PREFIX = "damaged-"
_STATE = "trainer_state.json"
_BLOCK, _BLOCKS = 64 * 1024, 64


def write_manifest(folder: Path, processes: int, only_weights: bool) -> None:
    """List all files of a checkpoint, which `processes` trained, in its manifest; called last.

    With `only_weights` optimizer and random states were not saved, so that no run can resume from it exactly.
    """
    files = {
        str(path.relative_to(folder)): [path.stat().st_size, fingerprint(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"processes": processes, "only_weights": only_weights, "files": files}
    write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `write_manifest` wrote; None for a checkpoint of the plain Trainer, which has none."""
    path = folder / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def checkpoint_damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, as text; None if nothing is.

    Without a manifest it is one of the plain Trainer, which writes trainer_state.json last: that file is looked for.
    """
    try:
        manifest = read_manifest(folder)
    except ValueError:
        return f"{MANIFEST} cannot be read"
    if manifest is None:
        return None if _is_json(folder / _STATE) else f"it has no {_STATE}, which is written last"
    for name, (size, wanted) in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
        if fingerprint(path) != wanted:
            return f"{name} does not hold what was written"
    return None


def resume_obstacle(folder: Path) -> str | None:
    """Why a run cannot resume exactly from a checkpoint, as text; None if it can."""
    found = checkpoint_damage(folder)
    if found is None and (read_manifest(folder) or {}).get("only_weights"):
        return "it holds weights alone (save_only_model)"
    return found


def fingerprint(path: Path) -> str:
    """Digest of a file; see the module for large ones."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
        else:
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, whole or not, newest first."""
    if not folder.is_dir():
        return []
    found = [re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.iterdir() if path.is_dir()]
    return sorted((int(match[1]) for match in found if match), reverse=True)


def whole_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that a run can resume from, newest first; a warning names the others."""
    whole = []
    for step in checkpoint_steps(folder):
        found = resume_obstacle(folder / f"checkpoint-{step}")
        if found is None:
            whole.append(step)
        else:
            logger.warning("%s is passed over: %s", folder / f"checkpoint-{step}", found)
    return whole


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that a run can resume from, the same on every rank. Every rank must call this.

    Machines that do not share the folder hold different parts; the checkpoint is whole on all of them.
    """
    state = PartialState()
    looks = state.is_local_main_process
    mine: list[Sequence[int] | None] = [whole_steps(folder) if looks else None]
    everybody = gather_object(mine) if state.num_processes > 1 else mine
    shared = set.intersection(*(set(steps) for steps in everybody if steps is not None))
    return folder / f"checkpoint-{max(shared)}" if shared else None


def put_damaged_aside(folder: Path) -> None:
    """Rename damaged checkpoints to damaged-checkpoint-N: their names will be needed again."""
    for step in checkpoint_steps(folder):
        if checkpoint_damage(folder / f"checkpoint-{step}") is not None:
            aside = folder / f"{DAMAGED_PREFIX}checkpoint-{step}"
            remove(aside)
            os.replace(folder / f"checkpoint-{step}", aside)


def _is_json(path: Path) -> bool:
    try:
        return path.is_file() and isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False
