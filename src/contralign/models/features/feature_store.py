"""Tensors by key, in memory up to a bound, and in a folder that runs and processes may share."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

logger = logging.getLogger(__name__)

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class StoreCounts:
    """What a store was asked for so far.

    Attributes:
        in_memory: found in memory.
        in_folder: found in the folder.
        missing: found nowhere.
        not_kept: not kept in memory, because it was full.
    """

    in_memory: int = 0
    in_folder: int = 0
    missing: int = 0
    not_kept: int = 0


class FeatureStore:
    """Keeps tensors; one that was put is never changed.

    A full memory keeps what it has and turns new tensors away: training goes over its pictures in circles, where
    throwing out the least recently used would throw out every picture just before it comes again.

    Args:
        max_gib: most memory for tensors.
        folder: also keep every tensor there, one safetensors file each; made if it is not there.

    Raises:
        ValueError: the bound is not above 0.
    """

    def __init__(self, max_gib: float = 2.0, folder: str | Path | None = None) -> None:
        if not max_gib > 0:
            raise ValueError(f"max_gib={max_gib}: wanted a number above 0")
        self.max_bytes = int(max_gib * GIB)
        self.folder = None if folder is None else Path(folder)
        self.counts = StoreCounts()
        self.bytes = 0
        self._kept: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor | None:
        """The tensor of a key, None where there is none.

        Raises:
            ValueError: its file is broken.
        """
        found = self._kept.get(key)
        if found is not None:
            self._count("in_memory")
            return found
        found = self._read(key)
        self._count("missing" if found is None else "in_folder")
        if found is not None:
            self._keep(key, found)
        return found

    def put(self, key: str, features: Tensor) -> None:
        """Keep a tensor under a new key."""
        self._keep(key, features)
        if self.folder is not None:
            path = self._path(self.folder, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            save_file({"features": features.contiguous()}, partial)
            partial.replace(path)

    def _keep(self, key: str, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if self.bytes + size <= self.max_bytes:
            self._kept[key] = features
            self.bytes += size
            return
        if not self.counts.not_kept:
            logger.warning(
                "the feature cache is full: %d pictures in %.2f GiB; further ones are %s. Raise model.feature_gib",
                len(self._kept),
                self.bytes / GIB,
                "encoded again every time" if self.folder is None else "read from its folder every time",
            )
        self._count("not_kept")

    def _read(self, key: str) -> Tensor | None:
        if self.folder is None:
            return None
        path = self._path(self.folder, key)
        try:
            return load_file(path)["features"]
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is broken ({error}): delete it, and its picture is encoded again") from error

    def _count(self, name: str) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + 1})

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"
