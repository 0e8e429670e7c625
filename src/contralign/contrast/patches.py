"""Contrast with a picture whose grid cells are masked at random (paper, appendix A.3; spec, section 6).

The grid lies on the original picture, before any padding or tiling, so that an overview and its tiles stay consistent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from numbers import Real
from typing import ClassVar

import numpy as np
from PIL import Image

from contralign.batch import VLBatch
from contralign.contrast.base import require_pictures

CLIP_MEAN_COLOUR = (122, 116, 104)
"""CLIP's mean colour: about 0 after normalisation, and what LLaVA pads with. The paper does not say what it used."""


def mask_patches(
    image: Image.Image,
    ratio: float,
    rng: np.random.Generator,
    fill: tuple[int, int, int] = CLIP_MEAN_COLOUR,
    columns: int = 10,
    rows: int = 20,
) -> Image.Image:
    """Cover a share of the cells of a grid, drawn at random.

    Cell borders are at round(i·width/columns) and round(j·height/rows), halves to the even number. Where the picture is
    smaller than the grid (fewer than `columns` pixels wide or `rows` high) some cells hold no pixel; the draw then goes
    over the cells that do, so that the covered share stays what was asked for. At least one cell is covered.

    Args:
        image: of any mode; it is read as RGB.
        ratio: share of the cells, in (0, 1].
        rng: where the draw comes from; it moves on.
        fill: colour of a covered cell, 0 to 255.
        columns: cells side by side.
        rows: cells on top of each other.

    Returns:
        A new RGB picture of the same size.

    Raises:
        ValueError: see `check_mask`.
    """
    check_mask(ratio, fill, columns, rows)
    pixels = np.array(image.convert("RGB"))
    cells = list(product(_spans(image.height, rows), _spans(image.width, columns)))
    count = max(round(ratio * len(cells)), 1)
    for cell in rng.choice(len(cells), size=count, replace=False):
        (top, bottom), (left, right) = cells[cell]
        pixels[top:bottom, left:right] = fill
    return Image.fromarray(pixels)


def check_mask(ratio: float, fill: tuple[int, int, int], columns: int, rows: int) -> None:
    """Refuse a mask that covers nothing or cannot be drawn.

    Raises:
        ValueError: the grid is not of positive integers, the ratio is outside (0, 1] or covers less than half a cell,
            or the fill is not three integers from 0 to 255.
    """
    for name, count in (("columns", columns), ("rows", rows)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}={count!r}: wanted a positive integer (the paper's grid is 10 columns x 20 rows)")
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 < ratio <= 1:
        raise ValueError(f"ratio={ratio!r}: wanted a share above 0 and up to 1 (the paper has 0.5, 0.7 and 0.9)")
    if round(ratio * columns * rows) < 1:
        raise ValueError(f"ratio={ratio} covers none of {columns * rows} cells: wanted {1 / (columns * rows)} or more")
    whole = isinstance(fill, Sequence) and [type(part) for part in fill] == [int] * 3
    if not whole or not all(0 <= part <= 255 for part in fill):
        raise ValueError(f"fill={fill!r}: wanted three integers from 0 to 255 (red, green, blue)")


def _spans(length: int, cells: int) -> list[tuple[int, int]]:
    """Start and end of every cell that holds a pixel."""
    borders = [round(i * length / cells) for i in range(cells + 1)]
    return [(start, end) for start, end in pairwise(borders) if start < end]


@dataclass(frozen=True)
class MaskPatches:
    """The second pass sees every picture with a share of its grid cells covered.

    The draw is fresh for every batch, row and picture, and the same again for the same `seed`, `VLBatch.draw`,
    `VLBatch.row_index` and picture number: a run repeats, and a view of some rows draws what the whole batch would.

    Attributes:
        ratio: share of the cells that is covered, in (0, 1]; the paper has 0.5, 0.7 and 0.9.
        fill: colour of a covered cell, 0 to 255; (0, 0, 0) is black.
        seed: 0 or more.
        columns: cells side by side.
        rows: cells on top of each other.

    Raises:
        ValueError: see `check_mask`; also a seed that is not an integer, 0 or more.
    """

    name: ClassVar[str] = "patches"
    reencodes: ClassVar[bool] = True

    ratio: float = 0.5
    fill: tuple[int, int, int] = CLIP_MEAN_COLOUR
    seed: int = 0
    columns: int = 10
    rows: int = 20

    def __post_init__(self) -> None:
        check_mask(self.ratio, self.fill, self.columns, self.rows)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: wanted an integer, 0 or more")

    def __call__(self, batch: VLBatch) -> VLBatch:
        """The batch with masked pictures, still to be encoded.

        Raises:
            ValueError: the batch carries no pictures.
        """
        pictures = require_pictures(batch, self.name)
        masked = tuple(
            tuple(self._mask(picture, (batch.draw, row, number)) for number, picture in enumerate(row_pictures))
            for row, row_pictures in zip(batch.row_index[:, 0].tolist(), pictures, strict=True)
        )
        return replace(batch, pictures=masked, inputs_embeds=None, vision_inputs={})

    def _mask(self, picture: Image.Image, place: tuple[int, int, int]) -> Image.Image:
        rng = np.random.default_rng([self.seed, *place])
        return mask_patches(picture, self.ratio, rng, self.fill, self.columns, self.rows)
