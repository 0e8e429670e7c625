"""A processor's output for pictures: the image tokens of each, and the tensors for the vision tower."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from contralign.data.batches.aspect import ASPECTS, ImageAspect
from contralign.data.text.chat_template import image_marker


@dataclass(frozen=True, kw_only=True)
class ImageInputs:
    """A processor's output for pictures.

    Attributes:
        blocks: token ids of every picture, with the tokens around it and between its tiles.
        token_fields: other fields of these tokens, such as `token_type_ids`; one tuple a picture.
        vision: inputs of the vision tower (`pixel_values`, `image_sizes` …).
    """

    blocks: list[tuple[int, ...]] = field(default_factory=list)
    token_fields: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    vision: dict[str, Tensor] = field(default_factory=dict)


def image_inputs(processor: Any, pictures: Sequence[Image.Image], aspect: ImageAspect = "processor") -> ImageInputs:
    """Run the processor on the image token and one picture at a time.

    Args:
        processor: a Hugging Face processor with in-line image tokens.
        pictures: RGB; none give empty inputs.
        aspect: padding or cropping before the processor.
    """
    if not pictures:
        return ImageInputs()
    made = processor(
        text=[image_marker(processor)] * len(pictures),
        images=[[ASPECTS[aspect](picture)] for picture in pictures],
        add_special_tokens=False,
        padding=True,
        return_tensors="pt",
    )
    ids, present = made["input_ids"], made["attention_mask"].bool()
    beside_ids = {name for name, value in made.items() if value.shape == ids.shape}

    def unpadded(values: Tensor) -> list[tuple[int, ...]]:
        return [tuple(row[here].tolist()) for row, here in zip(values, present, strict=True)]

    return ImageInputs(
        blocks=unpadded(ids),
        token_fields={name: unpadded(made[name]) for name in beside_ids - {"input_ids", "attention_mask"}},
        vision={name: value for name, value in made.items() if name not in beside_ids},
    )
