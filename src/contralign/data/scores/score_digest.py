"""Digests of a row's tokens, labels and pictures, of a tokenizer, an image processor and a model.

A score file records them, so that scores are used for nothing else.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contralign.data.records.images import contents
from contralign.data.records.messages import Sample
from contralign.data.text.image_token_expansion import ExpandedSample

_SAMPLED_BLOCKS, _BLOCK = 16, 1 << 16
_IDLE_SETTINGS = ("image_processor_type", "processor_class", "_processor_class", "_name_or_path")


@dataclass(frozen=True, slots=True)
class RowDigest:
    """64-bit digests of what Δ of one row depends on; neither path nor id is part of it.

    Attributes:
        whole: of everything below, and of the labels.
        text: of the token ids, image tokens included.
        pictures: of the pictures whose tokens are in the row, in order.
    """

    whole: int
    text: int
    pictures: int


def row_digest(sample: Sample, row: ExpandedSample) -> RowDigest:
    """Digests of a sample and its tokens before padding, after truncation; picture files are read, but not decoded."""
    text = np.asarray(row.input_ids, dtype="<i4").tobytes()
    labels = np.asarray(row.labels, dtype="<i4").tobytes()
    pictures = _number(map(contents, sample.pictures[: len(row.image_starts)]))
    return RowDigest(_number((text, labels, pictures.to_bytes(8, "little"))), _number((text,)), pictures)


def samples_digest(samples: Iterable[Sample]) -> str:
    """Digest of samples before tokenisation: ids, texts, and paths of pictures (pixels of those in memory)."""
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        words = [sample.id, *(word for turn in sample.turns for word in (turn.role, turn.text))]
        digest.update(json.dumps(words).encode())
        for picture in sample.pictures:
            digest.update(str(picture).encode() if isinstance(picture, Path) else contents(picture))
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of a vocabulary, added tokens included."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    return _hex(json.dumps(vocabulary).encode())


def image_processor_digest(processor: Any) -> str | None:
    """Digest of an image processor's settings; None for a bare tokenizer."""
    image_processor = getattr(processor, "image_processor", None)
    if image_processor is None:
        return None
    settings = {
        name: value
        for name, value in image_processor.to_dict().items()
        if value is not None and name not in _IDLE_SETTINGS
    }
    return _hex(json.dumps(settings, sort_keys=True, default=_plain).encode())


def model_digest(folder: Path) -> str:
    """Digest of a model directory: its configs, and the size and 16 blocks (1 MiB) of every weight file.

    Enough to tell a trained model from its start.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as weights:
            for place in np.linspace(0, max(size - _BLOCK, 0), _SAMPLED_BLOCKS, dtype=np.int64):
                weights.seek(int(place))
                digest.update(weights.read(_BLOCK))
    return digest.hexdigest()


def _number(pieces: Iterable[bytes]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return int.from_bytes(digest.digest(), "little")


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
