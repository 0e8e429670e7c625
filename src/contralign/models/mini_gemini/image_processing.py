"""Pictures as Mini-Gemini sees them: once large, and once small, made from the large one (spec 4.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import BatchFeature, LlavaImageProcessorPil
from transformers.processing_utils import ImagesKwargs

from contralign.models.mini_gemini.configuration import MiniGeminiConfig


class MiniGeminiImagesKwargs(ImagesKwargs, total=False):
    """Settings beside those that all image processors have.

    Attributes:
        low_res_size: side of a small picture.
        image_grid: 1, or 2 for HD: a small picture of twice that side, its four crops and, last, the whole.
    """

    low_res_size: int
    image_grid: int


class MiniGeminiImageProcessor(LlavaImageProcessorPil):
    """CLIP's steps (shortest edge, bicubic; centre crop; normalise) to the large size, and the small picture from that.

    The small picture is made of the NORMALISED large one, bilinearly and with no antialiasing, as the original does. So
    it is not what CLIP's own processor would give.

    Gives `pixel_values`, what the CLIP tower reads: (pictures, 3, side, side), in HD (pictures, 5, 3, side, side) with
    the crops row by row and the whole last; and `pixel_values_aux`, what the ConvNeXt tower reads: (pictures, 3, large
    side, large side).

    Args:
        kwargs: `size` and `crop_size` of the large picture; `low_res_size` and `image_grid`; `do_pad=True` pads a
            picture to a square with the mean colour first (off: what is not square is cropped); all that CLIP's takes.
    """

    valid_kwargs = MiniGeminiImagesKwargs
    model_input_names = ["pixel_values", "pixel_values_aux"]  # noqa: RUF012 (as in the base class)
    size = {"shortest_edge": 768}  # noqa: RUF012
    crop_size = {"height": 768, "width": 768}  # noqa: RUF012
    low_res_size = 336
    image_grid = 1

    @classmethod
    def for_config(cls, config: MiniGeminiConfig, **kwargs: Any) -> MiniGeminiImageProcessor:
        """The one whose sizes are a model's.

        Args:
            config: of the model.
            kwargs: further settings, such as `do_pad=True`.
        """
        vision: Any = config.vision_config
        aux: Any = config.aux_config
        side = aux.image_size
        own: dict[str, Any] = {"low_res_size": vision.image_size, "image_grid": config.image_grid}
        return cls(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **own, **kwargs)

    def _preprocess(
        self,
        images: list[np.ndarray],
        *args: Any,
        low_res_size: int,
        image_grid: int,
        return_tensors: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        made = super()._preprocess(images, *args, return_tensors=None, **kwargs)["pixel_values"]
        shapes = {picture.shape for picture in made}
        if len(shapes) > 1:
            raise ValueError(f"pictures of several shapes {sorted(shapes)}: wanted one, as do_center_crop makes it")
        large = torch.from_numpy(np.stack(made).astype(np.float32, copy=False))
        small = small_pictures(large, low_res_size, image_grid)
        data = {"pixel_values": small.numpy(), "pixel_values_aux": large.numpy()}
        return BatchFeature(data=data, tensor_type=return_tensors)


def small_pictures(
    large: Float[Tensor, "pictures 3 height width"], side: int, grid: int = 1
) -> Float[Tensor, "pictures 3 side side"] | Float[Tensor, "pictures slots 3 side side"]:
    """What the CLIP tower reads, from the normalised large picture.

    Args:
        large: normalised.
        side: of a small picture.
        grid: 1 gives one small picture. 2 gives four crops, row by row, of one of twice the side, and then the whole:
            that picture made smaller once more.
    """
    small = _resized(large, grid * side)
    if grid == 1:
        return small
    cut = small.reshape(len(small), 3, grid, side, grid, side)
    crops = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return torch.cat([crops, _resized(small, side).unsqueeze(1)], dim=1)


def _resized(pictures: Tensor, side: int) -> Tensor:
    return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False)
