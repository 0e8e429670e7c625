"""Contrast with a blurred picture (paper, appendix A.3; spec, section 6).

A true Gaussian, not the row of box filters that PIL's GaussianBlur is, on the original picture before any padding or
tiling: σ is counted in its pixels.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import ClassVar

import numpy as np
from PIL import Image

from contralign.batch import VLBatch
from contralign.contrast.base import require_pictures


def gaussian_kernel(sigma: float) -> np.ndarray:
    """exp(−x²/2σ²) at whole pixels up to ⌈3σ⌉ on both sides, scaled to sum 1.

    Args:
        sigma: above 0, in pixels.

    Returns:
        (2·⌈3σ⌉ + 1,) float64.
    """
    radius = math.ceil(3 * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def gaussian_blur(image: Image.Image, sigma: float) -> Image.Image:
    """Blur with a Gaussian cut at ⌈3σ⌉ pixels.

    The border mirrors the picture, edge pixel included (… c b a | a b c …), again and again where the picture is
    smaller than the kernel. Every pixel then gives away exactly what it had, so the mean colour stays. Computed in
    float32 and rounded once, at the end.

    Args:
        image: of any mode; it is read as RGB.
        sigma: above 0, in pixels of `image`.

    Returns:
        A new RGB picture of the same size.

    Raises:
        ValueError: see `check_sigma`.
    """
    check_sigma(sigma)
    kernel = gaussian_kernel(sigma).astype(np.float32)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    for axis in (0, 1):
        pixels = _blur_along(pixels, kernel, axis)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def check_sigma(sigma: float) -> None:
    """Refuse a σ that is no width.

    Raises:
        ValueError: σ is not a finite number above 0.
    """
    if isinstance(sigma, bool) or not isinstance(sigma, Real) or not 0 < sigma < math.inf:
        raise ValueError(
            f"sigma={sigma!r}: wanted a finite number of pixels above 0 (the paper has 1 and 10); "
            "take another contrast to compare with the picture as it is or with none"
        )


def _blur_along(pixels: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sum of shifted copies, mirrored at both ends of the axis."""
    length, radius = pixels.shape[axis], len(kernel) // 2
    widths = [(0, 0)] * pixels.ndim
    widths[axis] = (radius, radius)
    mirrored = np.moveaxis(np.pad(pixels, widths, mode="symmetric"), axis, 0)
    blurred = np.zeros((length, *mirrored.shape[1:]), dtype=pixels.dtype)
    for shift, share in enumerate(kernel):
        blurred += share * mirrored[shift : shift + length]
    return np.moveaxis(blurred, 0, axis)


@dataclass(frozen=True)
class BlurPicture:
    """The second pass sees every picture blurred.

    Attributes:
        sigma: width of the Gaussian in pixels of the original picture, above 0; the paper has 1 and 10.

    Raises:
        ValueError: see `check_sigma`.
    """

    name: ClassVar[str] = "blur"
    reencodes: ClassVar[bool] = True

    sigma: float = 10.0

    def __post_init__(self) -> None:
        check_sigma(self.sigma)

    def __call__(self, batch: VLBatch) -> VLBatch:
        """The batch with blurred pictures, still to be encoded.

        Raises:
            ValueError: the batch carries no pictures.
        """
        pictures = require_pictures(batch, self.name)
        blurred = tuple(tuple(gaussian_blur(picture, self.sigma) for picture in row) for row in pictures)
        return replace(batch, pictures=blurred, inputs_embeds=None, vision_inputs={})
