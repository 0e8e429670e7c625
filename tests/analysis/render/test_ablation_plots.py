import numpy as np
import pytest
from PIL import Image

from contralign.analysis.render.ablation_plots import Mark, MarkPlot, write_plot
from contralign.analysis.render.plots import COLOURS


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def colours(path):
    """The colours of the house that a picture shows."""
    wanted = {colour: tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5)) for colour in COLOURS}
    return {colour for colour, rgb in wanted.items() if (pixels(path) == rgb).all(axis=-1).any()}


def plot(labels, **changes):
    marks = [
        Mark(label=label, value=number, low=number - 1, high=number + 1, dots=(number,)) for number, label in labels
    ]
    settings = {"title": "t", "axis": "a", "quantity": "q", "lines": {"mle": [], "cal": marks}, **changes}
    return MarkPlot(**settings)


def test_a_numeric_axis_gives_a_wide_picture_and_words_give_rows(tmp_path):
    write_plot(tmp_path / "n.png", plot([(1, "0"), (2, "0.1"), (3, "0.3")]))
    write_plot(tmp_path / "w.png", plot([(1, "drop"), (2, "blur"), (3, "patches")]))
    write_plot(tmp_path / "inf.png", plot([(1, "1"), (2, ".inf")]))
    heights = {name: pixels(tmp_path / f"{name}.png").shape[0] for name in ("n", "w", "inf")}
    assert heights["n"] == 510
    assert heights["inf"] < heights["w"] < 600


def test_a_line_keeps_its_colour_where_others_have_no_marks(tmp_path):
    write_plot(tmp_path / "one.png", plot([(1, "0"), (2, "1")]))
    assert colours(tmp_path / "one.png") == {COLOURS[1]}


def test_the_same_numbers_give_the_same_file(tmp_path):
    for name in "ab":
        write_plot(tmp_path / f"{name}.png", plot([(1, "0"), (2, "1")], zero=True))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no number to draw"):
        write_plot(tmp_path / "x.png", plot([]))
