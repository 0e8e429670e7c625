"""Models by their hub name, as far as they lie in the cache of this machine. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError


def cached_snapshot(name: str) -> Path | None:
    """The newest snapshot of a hub name in the cache; None if there is none, or the name is no hub name."""
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
