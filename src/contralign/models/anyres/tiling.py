"""Anyres: how LLaVA-NeXT cuts a picture into tiles, and in which order their features stand in a row (spec 2.4).

A picture is shown twice: squashed into one tile as a whole (tile 0), and fitted, its aspect kept, into the middle of a
black canvas that is cut into tiles, row by row. Which canvas: the one of a short list that keeps most of its pixels.
Behind the projector the canvas' tiles are put together to one map of features, the margins are cut off (unpad), and
`image_newline` ends every row that is left. A row of tokens is tile 0, then the map, line by line.

Sizes and grids are (width, height) and (columns, rows), as in PIL and in the released code. transformers has them the
other way round, and that is where the two part: see `use_original_tiling`.
"""

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Num
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil, LlavaNextProcessor

logger = logging.getLogger(__name__)

Size = tuple[int, int]
Arithmetic = Literal["inference", "training"]

RELEASED_GRIDS: tuple[Size, ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
"""The canvases of the released models in tiles. Their order counts: where two serve alike, the first is taken."""


def canvases(tile: int, grids: Sequence[Size] = RELEASED_GRIDS) -> list[Size]:
    """The canvases in pixels ("pinpoints")."""
    return [(columns * tile, rows * tile) for columns, rows in grids]


def effective_resolution(size: Size, canvas: Size) -> int:
    """Pixels of a picture that are left on a canvas; making a picture larger adds none."""
    width, height = size
    scale = min(canvas[0] / width, canvas[1] / height)
    return min(int(width * scale) * int(height * scale), width * height)


def best_grid(size: Size, tile: int, grids: Sequence[Size] = RELEASED_GRIDS) -> Size:
    """The grid whose canvas keeps most pixels of a picture; of several, who wastes fewest; of those, the first."""

    def fit(grid: Size) -> tuple[int, int]:
        (canvas,) = canvases(tile, [grid])
        kept = effective_resolution(size, canvas)
        wasted = canvas[0] * canvas[1] - kept
        return kept, -wasted

    return max(grids, key=fit)  # the first of equals


def unpadded(size: Size, whole: Size, arithmetic: Arithmetic = "inference") -> Size:
    """What is left of a map of features when the margins beside the picture are cut off, equally on both sides.

    Args:
        size: of the picture.
        whole: columns and rows of the map.
        arithmetic: "inference" as where the released models are used. "training" as in CAL's trainer, which hands
            sizes over as tensors, so that these lines run in float32: of the sizes up to 2500 × 2500 it gives another
            number to 395, such as 342 × 608 (spec 10.2).

    Returns:
        Columns and rows; a very long strip may be left with none.
    """
    columns, rows = whole
    width, height = size if arithmetic == "inference" else torch.tensor(size, dtype=torch.float32, device="cpu")
    if width / height > columns / rows:
        filled = int(height * (columns / width))
        return columns, rows - 2 * ((rows - filled) // 2)
    filled = int(width * (rows / height))
    return columns - 2 * ((columns - filled) // 2), rows


def num_tokens(
    size: Size,
    tile: int = 336,
    patch: int = 14,
    grids: Sequence[Size] = RELEASED_GRIDS,
    arithmetic: Arithmetic = "inference",
) -> int:
    """Tokens of a picture: tile 0, what is left of the map, and a newline for each of its rows."""
    side = tile // patch
    grid = best_grid(size, tile, grids)
    columns, rows = unpadded(size, (grid[0] * side, grid[1] * side), arithmetic)
    return side**2 + (columns + 1) * rows


def pack(
    features: Num[Tensor, "tiles patches hidden"],
    newline: Num[Tensor, " hidden"],
    size: Size,
    grid: Size,
    arithmetic: Arithmetic = "inference",
) -> Num[Tensor, "tokens hidden"]:
    """Features of a picture's tiles in the order in which the language model reads them.

    Args:
        features: of tile 0 and of the grid's tiles row by row; patches of a tile row by row.
        newline: ends each row of the map.
        size: of the picture.
        grid: that its tiles are laid out in.
        arithmetic: see `unpadded`.

    Raises:
        ValueError: another number of tiles than the grid has.
    """
    columns, rows = grid
    if len(features) != 1 + columns * rows:
        raise ValueError(
            f"{len(features)} tiles of a picture of {size[0]} x {size[1]}, wanted 1 + {columns} x {rows}: the image "
            "processor chose another grid than the model does; make both follow one rule by use_original_tiling(model, "
            "processor) and collate with that processor"
        )
    side = math.isqrt(features.shape[1])
    tiles = features[1:].unflatten(1, (side, side)).unflatten(0, (rows, columns))
    whole = tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)
    width, height = unpadded(size, (columns * side, rows * side), arithmetic)
    left, top = (columns * side - width) // 2, (rows * side - height) // 2
    shown = whole[top : top + height, left : left + width]
    lines = torch.cat([shown, newline.to(shown).expand(height, 1, -1)], dim=1)
    return torch.cat([features[0], lines.flatten(0, 1)])


def use_original_tiling(
    model: Any, processor: Any, arithmetic: Arithmetic = "inference", grids: Sequence[Size] = RELEASED_GRIDS
) -> None:
    """Make a Hugging Face LLaVA-NeXT and its processor cut, count and pack pictures as the released code does.

    What differs in transformers, both changed in place (doing it twice is the same as once):

    - It reads `image_grid_pinpoints` as (height, width), but the list in use is the released one, of (width, height).
      As a set they are the same; in another order another canvas wins ties, and so all pictures that fit into one tile
      get the other of two grids. Every pair of the list is swapped, in the model's configuration and in the image
      processor; either may be in either order before. `save_pretrained` keeps this.
    - It rounds to seven digits where the released code takes the whole part, in the model and in the processor: 80 of
      the sizes up to 2500 × 2500 take another number of tokens. No file can say so: these two functions are replaced
      on the objects, and a pair that was loaded again needs another call.

    Pixels need no change: the PIL image processor gives the original's to the bit.

    Args:
        model: `LlavaNextForConditionalGeneration`, before any wrapper.
        processor: `LlavaNextProcessor` with a PIL image processor.
        arithmetic: see `unpadded`.
        grids: (columns, rows) in tiles, in their order; for a model with a list of its own.

    Raises:
        TypeError: another kind of model or processor.
        ValueError: they do not fit each other, or have another list of pinpoints than `grids`.
    """
    _check_kinds(model, processor)
    _check_fit(model.config, processor)
    tile = model.config.vision_config.image_size
    # Both lists are looked at before one object is changed.
    turned = [
        _heights_first(holder.image_grid_pinpoints, canvases(tile, grids))
        for holder in (model.config, processor.image_processor)
    ]
    _settle_model(model, turned[0], arithmetic)
    _settle_processor(processor, turned[1], arithmetic)


def use_original_tiling_if_released(loaded: Any) -> None:
    """What `use_original_tiling` does, for a model or a processor that was loaded alone: in place, and where it can be.

    A LLaVA-NeXT whose list of pinpoints is the released one, in either order, is made to follow the released code.
    Anything else, such as a model with a list of its own, stays as transformers has it.

    Args:
        loaded: a model or a processor of any kind.
    """
    if isinstance(loaded, LlavaNextForConditionalGeneration):
        holder: Any = loaded.config
        settle, tile = _settle_model, holder.vision_config.image_size
    elif isinstance(loaded, LlavaNextProcessor) and isinstance(loaded.image_processor, LlavaNextImageProcessorPil):
        holder = loaded.image_processor
        settle, tile = _settle_processor, holder.crop_size["height"]
    else:
        return
    try:
        turned = _heights_first(holder.image_grid_pinpoints or [], canvases(tile))
    except ValueError:
        logger.info("%s: its pinpoints are no released ones, and are read as transformers does", type(loaded).__name__)
        return
    settle(loaded, turned, "inference")


def _settle_model(model: Any, pinpoints: list[list[int]], arithmetic: Arithmetic) -> None:
    model.config.image_grid_pinpoints = pinpoints
    model.model.pack_image_features = partial(_pack_pictures, model.model, arithmetic)


def _settle_processor(processor: Any, pinpoints: list[list[int]], arithmetic: Arithmetic) -> None:
    processor.image_processor.image_grid_pinpoints = pinpoints
    processor._get_unpadded_features = partial(_count_unpadded, arithmetic)


def _count_unpadded(
    arithmetic: Arithmetic, height: int, width: int, tile_rows: int, tile_columns: int, rows: int, columns: int
) -> tuple[int, int]:
    """In place of `LlavaNextProcessor._get_unpadded_features`: tokens of the map, and its newlines."""
    left_columns, left_rows = unpadded((width, height), (tile_columns * columns, tile_rows * rows), arithmetic)
    return left_columns * left_rows, left_rows


def _pack_pictures(
    body: Any,
    arithmetic: Arithmetic,
    image_features: Sequence[Tensor],
    image_sizes: Any,
    vision_feature_select_strategy: str,
    image_newline: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """In place of `LlavaNextModel.pack_image_features`: features of every picture, and how many tokens each has."""
    tile = body.config.vision_config.image_size
    grids = [(width // tile, height // tile) for height, width in body.config.image_grid_pinpoints]
    packed = []
    for features, (height, width) in zip(image_features, torch.as_tensor(image_sizes).tolist(), strict=True):
        grid = best_grid((width, height), tile, grids)
        packed.append(pack(features, image_newline, (width, height), grid, arithmetic))
    return packed, torch.tensor([len(picture) for picture in packed], device=image_features[0].device)


def _heights_first(found: Sequence[Sequence[int]], wanted: Sequence[Size]) -> list[list[int]]:
    """A list of pinpoints as transformers reads it."""
    swapped = [[height, width] for width, height in wanted]
    given = [list(pair) for pair in found]
    if given not in (swapped, [list(pair) for pair in wanted]):
        raise ValueError(
            f"image_grid_pinpoints {given}: wanted {swapped} (height, width), or the same pairs as (width, height); "
            "for a model with another list give its grids: use_original_tiling(..., grids=[(columns, rows), ...])"
        )
    return swapped


def _check_kinds(model: Any, processor: Any) -> None:
    wanted = {
        "model": (model, LlavaNextForConditionalGeneration, "unwrap it first"),
        "processor": (processor, LlavaNextProcessor, "load it by AutoProcessor from a LLaVA-NeXT directory"),
        "image processor": (
            getattr(processor, "image_processor", None),
            LlavaNextImageProcessorPil,
            "the torchvision one resizes otherwise; load it by AutoProcessor.from_pretrained(..., backend='pil')",
        ),
    }
    for what, (found, kind, cure) in wanted.items():
        if not isinstance(found, kind):
            raise TypeError(f"{what}: got {type(found).__name__}, wanted {kind.__name__}; {cure}")


def _check_fit(config: Any, processor: Any) -> None:
    """A processor that counts other tokens than the model has features is found out here, not in the first batch."""
    tile, images = config.vision_config.image_size, processor.image_processor
    wanted = {
        "vision_feature_select_strategy of the model": (config.vision_feature_select_strategy, "default"),
        "vision_feature_select_strategy of the processor": (processor.vision_feature_select_strategy, "default"),
        "patch_size of the processor": (processor.patch_size, config.vision_config.patch_size),
        "num_additional_image_tokens of the processor": (processor.num_additional_image_tokens, 1),
        "size of the image processor": (images.size.get("shortest_edge") or images.size.get("height"), tile),
        "crop_size of the image processor": (images.crop_size["height"], tile),
    }
    for what, (found, right) in wanted.items():
        if found != right:
            raise ValueError(
                f"{what} is {found!r}, wanted {right!r} with this model: set it before use_original_tiling"
            )
