"""Shapes that a benchmark runs: how large the language model is, and how many tokens of which kind a row holds.

The named shapes have the proportions of the real models and a width that two CPU cores can train; a real one is a few
options away (7B: hidden 4096, layers 32, heads 32).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Dtype = Literal["float32", "bfloat16"]

LLAMA_INTERMEDIATE = 2.6875
"""Width of LLaMA's feed-forward part over its hidden size: 11008 / 4096."""

VICUNA_PREFIX = 35 / 128
"""Share of the text that stands before the picture with the template vicuna_v1: its system prompt."""

_TILINGS = ((2, 2), (1, 2), (2, 1), (1, 3), (3, 1))
_GRIDS = range(1, 65)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one measured batch is; all counts are of one row unless said otherwise.

    A row is prefix, picture, question, answer; the answer is its label tokens. All rows hold the same number of text
    tokens; a row of text alone is padded to the length of the others.

    Attributes:
        model: a named shape, or the directory of a model.
        hidden: width of the language model.
        layers: its depth.
        heads: attention heads.
        intermediate: width of the feed-forward part.
        vocabulary: rows of the head.
        image_tokens: image tokens of a picture.
        text_tokens: all that is no image token: prefix, question and answer.
        label_tokens: the answer, at the end of the row.
        prefix: text before the picture, the same in every row.
        batch: rows.
        text_only_rows: how many of them have no picture.
        dtype: of parameters and activations.
        checkpointing: recompute the decoder's activations in the backward pass (use_reentrant=False).
        seed: of weights and tokens.

    Raises:
        ValueError: a count is out of range, or the counts do not fit together.
    """

    model: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    image_tokens: int
    text_tokens: int
    label_tokens: int
    prefix: int
    batch: int
    text_only_rows: int = 0
    dtype: Dtype = "float32"
    checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("hidden", "layers", "heads", "intermediate", "image_tokens", "label_tokens", "prefix", "batch")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: wanted 1 or more")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden={self.hidden}: wanted a multiple of twice the heads (heads={self.heads})")
        if self.vocabulary < 8:
            raise ValueError(f"vocabulary={self.vocabulary}: wanted 8 or more")
        if self.prefix + self.label_tokens > self.text_tokens:
            raise ValueError(
                f"prefix={self.prefix} and label_tokens={self.label_tokens} do not fit into "
                f"text_tokens={self.text_tokens}: the prefix stands before the picture, the labels at the end"
            )
        if not 0 <= self.text_only_rows < self.batch:
            raise ValueError(
                f"text_only_rows={self.text_only_rows} of batch={self.batch}: wanted 0 to {self.batch - 1}; without "
                "a picture there is no second pass to measure"
            )
        check_dtype(self.dtype)

    @property
    def pictures(self) -> int:
        """Rows with a picture."""
        return self.batch - self.text_only_rows

    @property
    def row_tokens(self) -> int:
        """Length of a padded row."""
        return self.image_tokens + self.text_tokens

    @property
    def floor(self) -> float:
        """What a second pass over the text adds to a step, counted in token passes through the decoder.

        A step takes a token through the decoder three times (forward once, backward twice), four times with
        checkpointing; the second pass takes the text of every row with a picture through it once more. Padding
        counts, since it is computed. A second pass that does not compute the common prefix again can be cheaper.

        Returns:
            Share of the cost of the same step without CAL, head and vision tower left out.
        """
        passes = 4 if self.checkpointing else 3
        return self.pictures * self.text_tokens / (passes * self.batch * self.row_tokens)

    def describe(self) -> str:
        """The shape in one line."""
        rows = f"{self.batch} rows" + (f", {self.text_only_rows} of text alone" if self.text_only_rows else "")
        return (
            f"{self.model}: hidden {self.hidden}, {self.layers} layers, vocabulary {self.vocabulary}; {rows}: "
            f"{self.image_tokens} image + {self.text_tokens} text tokens ({self.label_tokens} labels, "
            f"{self.prefix} before the picture); {self.dtype}, "
            f"checkpointing {'on' if self.checkpointing else 'off'}"
        )


DEFAULT_ROWS = {"text_tokens": 128, "label_tokens": 64, "batch": 2}
"""Text and rows where nothing else is asked for."""

_SMALL = {"hidden": 512, "layers": 8, "heads": 8, "vocabulary": 32000}

NAMED_SHAPES: dict[str, Mapping[str, int]] = {
    "llava15": _SMALL | DEFAULT_ROWS | {"image_tokens": 576},
    "llava_next": _SMALL | DEFAULT_ROWS | {"image_tokens": 1752},
    "tiny": {"hidden": 128, "layers": 3, "heads": 4, "intermediate": 384, "vocabulary": 4096}
    | {"image_tokens": 16, "text_tokens": 32, "label_tokens": 16, "batch": 8},
}
"""Defaults of the named shapes. LLaVA-NeXT's 1752 image tokens are a wide picture in 1 x 2 tiles of 24 x 24 and the
overview; 2928 are 2 x 2 tiles."""


def named_shape(name: str, **overrides: int | bool | str | None) -> Shape:
    """A named shape with some of its sizes changed.

    Args:
        name: one of `NAMED_SHAPES`.
        overrides: fields of `Shape`; None leaves the default.

    Raises:
        ValueError: no such shape, sizes that do not fit, or a count of image tokens that the family cannot give.
    """
    if name not in NAMED_SHAPES:
        raise ValueError(f"{name!r} is no named shape: wanted one of {', '.join(NAMED_SHAPES)}, or a model directory")
    chosen: dict[str, int | bool | str] = {**NAMED_SHAPES[name], **given(overrides)}
    chosen.setdefault("intermediate", max(round(LLAMA_INTERMEDIATE * int(chosen["hidden"])), 1))
    chosen.setdefault("prefix", default_prefix(int(chosen["text_tokens"]), int(chosen["label_tokens"])))
    shape = Shape(model=name, **chosen)  # type: ignore[arg-type]
    if name == "llava_next":
        anyres_tiles(shape.image_tokens)
    else:
        square_side(shape.image_tokens)
    return shape


def given(overrides: Mapping[str, int | bool | str | None]) -> dict[str, int | bool | str]:
    """The overrides that were set."""
    return {name: value for name, value in overrides.items() if value is not None}


def default_prefix(text_tokens: int, label_tokens: int) -> int:
    """Text tokens before the picture: the share that Vicuna's system prompt has, at least a lone BOS."""
    return max(min(round(VICUNA_PREFIX * text_tokens), text_tokens - label_tokens), 1)


def check_dtype(dtype: str) -> None:
    """Refuse a type that no bench runs in.

    Raises:
        ValueError: names those that there are.
    """
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype={dtype!r}: wanted one of {', '.join(get_args(Dtype))}")


def square_side(image_tokens: int) -> int:
    """Side of LLaVA-1.5's square of patches: 24 for 576.

    Raises:
        ValueError: no square; names the nearest ones.
    """
    side = math.isqrt(max(image_tokens, 0))
    if side * side != image_tokens:
        below = f"{side**2} ({side} x {side}) or " if side else ""
        raise ValueError(
            f"image_tokens={image_tokens} is no square of patches: wanted {below}{(side + 1) ** 2} "
            f"({side + 1} x {side + 1})"
        )
    return side


def anyres_tiles(image_tokens: int) -> tuple[int, int, int]:
    """How LLaVA-NeXT comes to a number of image tokens: patches a tile side, tile rows, tile columns.

    A picture that fills its tiles gives the overview, grid² tokens, and the tiles, one row of patches after the other
    with a newline token at the end of each: grid² + (rows · grid) · (columns · grid + 1).

    Raises:
        ValueError: no tiling gives this number; names the nearest that one does.
    """
    counts = _anyres_counts()
    if image_tokens in counts:
        return counts[image_tokens]
    below = [count for count in counts if count < image_tokens]
    above = [count for count in counts if count > image_tokens]
    nearest = sorted(below)[-1:] + sorted(above)[:1]
    named = " or ".join(f"{count} ({_in_words(*counts[count])})" for count in nearest)
    raise ValueError(
        f"image_tokens={image_tokens} is no number that anyres gives: wanted {named}; LLaVA-NeXT's own are "
        + ", ".join(f"{count} ({_in_words(*tiles)})" for count, tiles in sorted(counts.items()) if tiles[0] == 24)
    )


def _anyres_counts() -> dict[int, tuple[int, int, int]]:
    counts: dict[int, tuple[int, int, int]] = {}
    for grid in _GRIDS:
        for rows, columns in _TILINGS:
            counts.setdefault(grid**2 + rows * grid * (columns * grid + 1), (grid, rows, columns))
    return counts


def _in_words(grid: int, rows: int, columns: int) -> str:
    return f"{rows} x {columns} tiles of {grid} x {grid}"
