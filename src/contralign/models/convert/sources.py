"""Where a checkpoint lies: a folder, a hub name in the cache, or an adapter beside its base language model."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from contralign.models.convert.checkpoint import INDEX_FILES, WHOLE_FILES, ConversionError, read_json
from contralign.models.convert.projector_file import PROJECTOR_FILE

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
LORA_FILES = ("adapter_config.json", "non_lora_trainables.bin", "adapter_model.bin", "adapter_model.safetensors")


def cached_snapshot(name: str) -> Path | None:
    """The newest snapshot of a hub name in the cache; None if there is none, or the name is no hub name."""
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def find_source(name: str | Path) -> Path:
    """The directory of a checkpoint: a folder, or the newest snapshot of a hub name in the cache. Nothing is loaded.

    Raises:
        ConversionError: neither is there.
    """
    if Path(name).is_dir():
        return Path(name)
    cached = cached_snapshot(str(name))
    if cached is None:
        fetched = f": `hf download {name}` where there is a network" if HUB_NAME.fullmatch(str(name)) else ""
        raise ConversionError(f"{name} is no folder, and no model of that name is in the cache{fetched}")
    return cached


def has_weights(directory: Path) -> bool:
    """Whether a directory holds the weights of a whole model."""
    return any((directory / name).is_file() for name in (*INDEX_FILES, *WHOLE_FILES))


@contextmanager
def whole_checkpoint(path: Path, base: Path | None) -> Iterator[Path]:
    """A directory with all weights: the checkpoint itself, or its adapter file laid beside the weights of `base`.

    Nothing is copied: the directory holds links and is removed in the end.

    Raises:
        ConversionError: a LoRA; an adapter without a base; a base that is not needed or holds no weights.
    """
    lora = [name for name in LORA_FILES if (path / name).exists()]
    if lora:
        raise ConversionError(
            f"{path} holds a LoRA ({', '.join(lora)}): merge it into its base with the original's "
            "scripts/merge_lora_weights.py first, and convert the merged checkpoint"
        )
    if has_weights(path):
        if base is not None:
            raise ConversionError(f"{path} holds a whole model: --base {base} has no effect, leave it out")
        yield path
        return
    if not (path / PROJECTOR_FILE).is_file():
        raise ConversionError(f"{path} holds no weights: wanted one of {', '.join(INDEX_FILES + WHOLE_FILES)}")
    if base is None:
        raise ConversionError(
            f"{path} holds an adapter alone ({PROJECTOR_FILE}): give the language model it was trained on with --base"
        )
    with tempfile.TemporaryDirectory(prefix="contralign-convert-") as folder:
        yield _linked_checkpoint(path, base, Path(folder))


def _linked_checkpoint(path: Path, base: Path, folder: Path) -> Path:
    if not has_weights(base):
        raise ConversionError(f"--base {base} holds no weights: wanted one of {', '.join(INDEX_FILES + WHOLE_FILES)}")
    weights = [file for file in base.iterdir() if file.suffix in (".bin", ".safetensors") or file.name in INDEX_FILES]
    for file in (*(file for file in weights if file.name != PROJECTOR_FILE), path / PROJECTOR_FILE):
        (folder / file.name).symlink_to(file.resolve())
    read_json(path / "config.json")
    shutil.copy(path / "config.json", folder)
    return folder
