"""A contrast that inherits from nothing: every picture is one shade of grey."""

from dataclasses import dataclass, replace
from typing import ClassVar

from PIL import Image

from contralign.batch import VLBatch


@dataclass(frozen=True)
class GreyPicture:
    """The second pass sees a grey picture of the same size."""

    name: ClassVar[str] = "grey"
    reencodes: ClassVar[bool] = True

    shade: int = 128

    def __call__(self, batch: VLBatch) -> VLBatch:
        grey = tuple(
            tuple(Image.new("RGB", picture.size, (self.shade,) * 3) for picture in row) for row in batch.pictures
        )
        return replace(batch, pictures=grey, inputs_embeds=None, vision_inputs={})
