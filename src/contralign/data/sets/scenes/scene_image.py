"""Scenes as pictures: a grid of 4 x 4 cells of 16 pixels, one item a line.

Characters of a code and bars of a chart have a cell each, because their order must be seen. With several in one patch
the tiny LLaVA's frozen tower, which learns what captions name and not in which order, left heights at the level of
guessing (accuracy 0.19) and characters at 0.22; a cell each they came to 0.79 and 0.79 (one run of each).
"""

from PIL import Image, ImageDraw

from contralign.data.sets.scenes.glyphs import Bitmap, glyph_bitmap, letter_bitmap
from contralign.data.sets.scenes.scene_difficulty import GRID, ONE_CELL
from contralign.data.sets.scenes.scene_items import Item, Scene, count_of
from contralign.data.sets.scenes.scene_words import COLOURS

CELL = 16
"""Pixels of a cell: the patch size that suits a vision tower best, or a multiple of it."""

PICTURE_SIDE = GRID * CELL
HALF = CELL // 2

BAR_MARGIN, UNIT = 2, 2
"""Pixels to the left and right of a bar in its cell, and of a unit of its height."""

Ink = tuple[int, int, int]


def paint(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, `PICTURE_SIDE` pixels square."""
    picture = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), scene.paper)
    pen = ImageDraw.Draw(picture)
    for item in scene.items:
        left, top, ink = item.column * CELL, item.row * CELL, COLOURS[item.colour]
        match item.thing:
            case "sign":
                _stamp(pen, glyph_bitmap(item.words[-1]), left, top, dot=3, ink=ink)
            case "shapes":
                _paint_shapes(pen, item, left, top, ink)
            case "chart":
                _paint_bars(pen, item.words[-count_of(item) :], left, top, ink)
            case "word" | "number":
                for place, character in enumerate(item.words[-1]):
                    _stamp(pen, letter_bitmap(character), left + 1 + place * HALF, top + 3, dot=2, ink=ink)
            case "code":
                for place, character in enumerate(item.words[1:]):
                    _stamp(pen, letter_bitmap(character), left + 3 + place * CELL, top, dot=3, ink=ink)
    return picture


def _stamp(pen: ImageDraw.ImageDraw, bitmap: Bitmap, left: int, top: int, dot: int, ink: Ink) -> None:
    for y, row in enumerate(bitmap):
        for x, bit in enumerate(row):
            if bit == "1":
                corner = (left + x * dot, top + y * dot)
                pen.rectangle((*corner, corner[0] + dot - 1, corner[1] + dot - 1), fill=ink)


def _paint_shapes(pen: ImageDraw.ImageDraw, item: Item, left: int, top: int, ink: Ink) -> None:
    """Two columns of two in a cell; what is over goes into the next cell."""
    for place in range(count_of(item)):
        x = left + place // ONE_CELL * CELL + place % 2 * HALF
        y = top + place % ONE_CELL // 2 * HALF
        match item.words[-1]:
            case "circles":
                pen.ellipse((x, y, x + 6, y + 6), fill=ink)
            case "squares":
                pen.rectangle((x, y, x + 6, y + 6), fill=ink)
            case "triangles":
                pen.polygon(((x + 3, y), (x + 6, y + 6), (x, y + 6)), fill=ink)
            case "crosses":
                pen.line((x + 1, y + 1, x + 6, y + 6), fill=ink, width=2)
                pen.line((x + 1, y + 6, x + 6, y + 1), fill=ink, width=2)


def _paint_bars(pen: ImageDraw.ImageDraw, heights: tuple[str, ...], left: int, top: int, ink: Ink) -> None:
    floor = top + CELL - 1
    for place, height in enumerate(heights):
        x = left + place * CELL
        pen.rectangle((x + BAR_MARGIN, floor - int(height) * UNIT + 1, x + CELL - BAR_MARGIN - 1, floor), fill=ink)
