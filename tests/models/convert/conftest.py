import json
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from contralign.models.convert.checkpoint import read_weights
from contralign.models.convert.weight_files import write_weights

GOLDEN = Path(__file__).parents[2] / "golden"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def sentencepiece_file(
    pieces: Iterable[tuple[str, float, int]],
    *,
    model_type: int = 2,
    byte_fallback: bool = False,
    add_dummy_prefix: bool = True,
    remove_extra_whitespaces: bool = False,
    charsmap: bytes = b"",
) -> bytes:
    """The bytes of a tokenizer.model, written field by field as sentencepiece_model.proto numbers them."""
    content = b"".join(field(1, field(1, text) + field(2, score) + field(3, kind)) for text, score, kind in pieces)
    trainer = field(3, model_type) + field(35, int(byte_fallback))
    normalizer = (
        field(1, "identity")
        + field(2, charsmap)
        + field(3, int(add_dummy_prefix))
        + field(4, int(remove_extra_whitespaces))
    )
    return content + field(2, trainer) + field(3, normalizer)


def llama_file() -> bytes:
    """The LLaMA-like tokenizer.model of the golden ids, with the scores that the merges of its fast form stand for."""
    model = json.loads((GOLDEN / "llama_like_tokenizer" / "tokenizer.json").read_text())["model"]
    rank: dict[str, int] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        rank.setdefault(left + right, len(rank) + 2)
    specials = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}

    def piece(text: str) -> tuple[str, float, int]:
        kind = specials.get(text, BYTE if len(text) == 6 and text.startswith("<0x") else NORMAL)
        only_spaces = not text.strip("▁")
        return text, 0.0 if kind != NORMAL else -1e9 if only_spaces else -float(rank.get(text, 10**6)), kind

    return sentencepiece_file(map(piece, sorted(model["vocab"], key=model["vocab"].get)), byte_fallback=True)


@pytest.fixture
def write_tokenizer(tmp_path):
    """Writes a tokenizer directory: the bytes of tokenizer.model, and tokenizer_config.json."""

    def write(content: bytes, **settings) -> Path:
        directory = tmp_path / "tokenizer"
        directory.mkdir(exist_ok=True)
        (directory / "tokenizer.model").write_bytes(content)
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
        return directory

    return write


@pytest.fixture
def make_sentencepiece():
    return sentencepiece_file


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    (directory / "tokenizer.model").write_bytes(llama_file())
    return directory


CHECKPOINT, TOWERS = GOLDEN / "ckpt" / "llava15_tiny", GOLDEN / "ckpt"
NEXT_TOWER = "towers/clip-tiny-patch14-28"


def next_state() -> dict[str, torch.Tensor]:
    """A LLaVA-NeXT's weights of golden pieces: the tiny LLaVA with the tower of 28 pixels."""
    prefix = "model.vision_tower.vision_tower."
    state = {name: tensor for name, tensor in read_weights(CHECKPOINT).items() if not name.startswith(prefix)}
    state |= {prefix + name: tensor for name, tensor in read_weights(TOWERS / NEXT_TOWER).items()}
    state["model.image_newline"] = torch.randn(48, generator=torch.Generator().manual_seed(0))
    return state


@pytest.fixture(scope="session")
def next_checkpoint(tmp_path_factory) -> Path:
    """An original LLaVA-NeXT checkpoint in shards of both kinds of names, the trained tower inside."""
    directory = tmp_path_factory.mktemp("next")
    settings = json.loads((CHECKPOINT / "config.json").read_text())
    settings |= {
        "model_type": "llava",
        "image_aspect_ratio": "anyres",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_vision_tower": NEXT_TOWER,
        "unfreeze_mm_vision_tower": True,
        "image_grid_pinpoints": json.loads((GOLDEN / "llava_anyres.json").read_text())["s28"]["pinpoints_wh"],
    }
    (directory / "config.json").write_text(json.dumps(settings))
    write_weights(next_state(), directory, "bin", shard_bytes=150_000)
    return directory
