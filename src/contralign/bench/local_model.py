"""A model from disk as a workload: its own weights, image token, image size and processor."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from contralign.bench.random_batch import BatchInputs
from contralign.bench.shapes import DEFAULT_ROWS, Shape, check_dtype, default_prefix, given
from contralign.data.batches.image_inputs import ImageInputs, image_inputs
from contralign.models.anyres.processors import load_processor
from contralign.models.anyres.tiling import use_original_tiling_if_released
from contralign.models.pretrained import load_whole_model

_OF_THE_MODEL = ("hidden", "layers", "heads", "intermediate", "vocabulary", "image_tokens")


def load_local(folder: Path, **overrides: int | bool | str | None) -> tuple[Shape, Any, BatchInputs]:
    """Load a model directory and say what a batch for it is made of. Nothing is fetched, weights are safetensors.

    A picture is a grey square of the size that the vision tower takes; the processor says how many image tokens it
    gives.

    Args:
        folder: with config.json, *.safetensors and the processor.
        overrides: fields of `Shape`.

    Raises:
        ValueError: a knob that the model itself decides, or a directory that lacks a part.
    """
    chosen: dict[str, Any] = {"text_only_rows": 0, "dtype": "float32", **DEFAULT_ROWS, **given(overrides)}
    for name in _OF_THE_MODEL:
        if name in chosen:
            raise ValueError(f"{name}={chosen[name]} has no effect on the model in {folder}: it brings its own")
    check_dtype(chosen["dtype"])
    processor, model = _load(folder, chosen["dtype"])
    side = _image_side(model)
    picture = Image.new("RGB", (side, side), "grey")
    made = image_inputs(processor, [picture] * max(chosen["batch"] - chosen["text_only_rows"], 1))
    num_images = made.blocks[0].count(model.config.image_token_id)
    return _shape(folder, model, num_images, chosen), model, _inputs(processor, model, made, num_images)


def _shape(folder: Path, model: Any, image_tokens: int, chosen: dict[str, Any]) -> Shape:
    text = model.config.get_text_config()
    chosen.setdefault("prefix", default_prefix(chosen["text_tokens"], chosen["label_tokens"]))
    return Shape(
        model=str(folder),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        intermediate=text.intermediate_size,
        vocabulary=text.vocab_size,
        image_tokens=image_tokens,
        **chosen,
    )


def _inputs(processor: Any, model: Any, made: ImageInputs, image_tokens: int) -> BatchInputs:
    block, tokenizer = made.blocks[0], processor.tokenizer
    special = {*tokenizer.all_special_ids, *block}
    vocabulary = model.config.get_text_config().vocab_size
    return BatchInputs(
        words=torch.tensor([token for token in range(vocabulary) if token not in special]),
        bos=tokenizer.bos_token_id,
        picture=block,
        num_marks=len(block) - image_tokens,
        vision_inputs={
            name: value.to(model.dtype) if value.is_floating_point() else value for name, value in made.vision.items()
        },
        token_fields={name: values[0] for name, values in made.token_fields.items()},
    )


def _load(folder: Path, dtype: str) -> tuple[Any, Any]:
    try:
        processor = load_processor(folder, local_files_only=True)
        model = load_whole_model(folder, dtype=getattr(torch, dtype), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is no complete model directory: wanted config.json, *.safetensors and a processor ({error})"
        ) from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ValueError(f"{folder} has no processor for pictures: save one there (processor.save_pretrained)")
    use_original_tiling_if_released(model)
    return processor, model


def _image_side(model: Any) -> int:
    """Pixels of a side of the pictures that the vision tower takes."""
    size = getattr(model.config.vision_config, "image_size", None)
    if isinstance(size, (list, tuple)):
        size = size[0]
    return size if isinstance(size, int) else 336
