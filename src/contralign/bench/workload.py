"""A shape as something to run: a real Hugging Face model with random weights, or one from disk, and a batch for it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaNextConfig

from contralign.bench.local_model import load_local
from contralign.bench.memory import check_memory, named_out_of_memory
from contralign.bench.random_batch import BatchInputs, make_batch
from contralign.bench.shapes import NAMED_SHAPES, Shape, anyres_tiles, named_shape, square_side
from contralign.run.learning.trainable_parts import part_of

_PATCH = 4
_BOS, _FIRST_WORD = 1, 3


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model in training mode, its vision tower frozen, and one batch on its device.

    Attributes:
        shape: what it was made from.
        model: a Hugging Face image-text-to-text model.
        batch: what a collator gives: input_ids, labels, attention_mask, pixel_values …
    """

    shape: Shape
    model: Any
    batch: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        """Where the model and the batch are."""
        return self.batch["input_ids"].device


def make_workload(model: str, device: str = "cpu", **overrides: int | bool | str | None) -> Workload:
    """A named shape, or the model of a directory, ready to run.

    Args:
        model: one of `NAMED_SHAPES`, or a model directory.
        device: "cpu" or "cuda".
        overrides: fields of `Shape` that differ from the defaults; None leaves the default. A model from disk has its
            own sizes: for it only those of the text, the batch, dtype, checkpointing and seed can be set.

    Raises:
        ValueError: neither a named shape nor a directory, or sizes that do not fit.
    """
    if model in NAMED_SHAPES:
        return build(named_shape(model, **overrides), device)
    if not Path(model).is_dir():
        raise ValueError(f"--model {model!r}: wanted one of {', '.join(NAMED_SHAPES)}, or a model directory")
    shape, loaded, inputs = load_local(Path(model), **overrides)
    return _ready(shape, loaded.to(device), inputs, device)


def build(shape: Shape, device: str = "cpu") -> Workload:
    """The model of a named shape with random weights, and its batch. The global random state stays as it is.

    Raises:
        OutOfMemory: it cannot fit.
    """
    check_memory(shape, device)
    dtype: torch.dtype = getattr(torch, shape.dtype)
    picture, image_sizes = _picture(shape)
    config = _config(shape, picture)
    accelerators = [torch.device(device)] if device.startswith("cuda") else []
    with named_out_of_memory("building the model", shape), torch.random.fork_rng(accelerators), torch.device(device):
        torch.manual_seed(shape.seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)
    generator = torch.Generator().manual_seed(shape.seed)
    vision_inputs = {"pixel_values": torch.randn((shape.pictures, *picture), generator=generator).to(dtype)}
    if image_sizes is not None:
        vision_inputs["image_sizes"] = torch.tensor(image_sizes).repeat(shape.pictures, 1)
    inputs = BatchInputs(
        words=torch.arange(_FIRST_WORD, shape.vocabulary - 1),
        bos=_BOS,
        picture=[shape.vocabulary - 1] * shape.image_tokens,
        vision_inputs=vision_inputs,
    )
    return _ready(shape, model, inputs, device)


def _picture(shape: Shape) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """Shape of a picture's pixels, and for anyres its size in pixels."""
    if shape.model != "llava_next":
        side = square_side(shape.image_tokens) * _PATCH
        return (3, side, side), None
    grid, rows, columns = anyres_tiles(shape.image_tokens)
    side = grid * _PATCH
    return (1 + rows * columns, 3, side, side), (rows * side, columns * side)


def _config(shape: Shape, picture: tuple[int, ...]) -> LlavaConfig | LlavaNextConfig:
    """The tower is a CLIP of width 32 and 2 layers: it runs in every mode alike, and should not dilute the ratios."""
    tower = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=picture[-1],
        patch_size=_PATCH,
    )
    text = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=max(shape.row_tokens, 4096),
        bos_token_id=_BOS,
        eos_token_id=2,
        pad_token_id=0,
    )
    common: dict[str, Any] = {
        "vision_config": tower,
        "text_config": text,
        "image_token_index": shape.vocabulary - 1,
        "image_seq_length": shape.image_tokens,
    }
    if shape.model != "llava_next":
        return LlavaConfig(**common)
    _, rows, columns = anyres_tiles(shape.image_tokens)
    return LlavaNextConfig(**common, image_grid_pinpoints=[[rows * picture[-1], columns * picture[-1]]])


def _ready(shape: Shape, model: Any, inputs: BatchInputs, device: str) -> Workload:
    """As a Trainer sets it up: training mode, no cache, the tower frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) != "vision_tower")
    model.config.use_cache = False
    model.config.get_text_config().use_cache = False
    if shape.checkpointing:
        with warnings.catch_warnings():
            # Its successor is newer than 5.21.
            warnings.filterwarnings("ignore", ".*will be removed in v6", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = {name: value.to(device) for name, value in make_batch(shape, inputs).items()}
    return Workload(shape=shape, model=model.train(), batch=batch)
