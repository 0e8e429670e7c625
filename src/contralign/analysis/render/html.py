"""The report page of a run: one file, nothing loaded from elsewhere, no script.

Every text on it comes from data, so the templates escape everything; nothing is marked as safe. A content security
policy in the page stands behind that.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from contralign.analysis.caption_delta import CaptionDelta, Piece
from contralign.analysis.gallery import GallerySample
from contralign.analysis.render.plots import training_curves
from contralign.analysis.render.tables import result_tables
from contralign.analysis.run_report import Report

FULL_COLOUR_DELTA = 5.0
"""Δ at which the colour is full: β of the paper."""

SMALL_SIDE = 160
"""Pictures of no more pixels a side are enlarged with their pixels kept sharp."""

SCORE_NAMES = {"logit": "Δ logit", "logprob": "Δ log-probability"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of text with its colour.

    Attributes:
        blank: white space in front, which stays without colour.
        text: the rest of it, as it stands in the caption.
        style: classes of the sign of Δ and of the kind.
        share: 0 to 1, how full the colour is.
        numbers: what stands behind it, for the title.
    """

    blank: str
    text: str
    style: str
    share: str
    numbers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColouredCaption:
    """The reference answers of one sample, coloured by one Δ of one arm."""

    arm: str
    score: str
    turns: tuple[tuple[str, tuple[Token, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineImage:
    """A picture as an address of the form data:image/png."""

    src: str
    is_small: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One sample of the gallery.

    Attributes:
        id: of the sample.
        pictures: of the sample.
        first: the caption that is always shown.
        more: those that are folded away.
        said: (arm, its own caption).
    """

    id: str
    pictures: tuple[InlineImage, ...]
    first: ColouredCaption
    more: tuple[ColouredCaption, ...]
    said: tuple[tuple[str, str], ...]


def write_report(path: Path, report: Report) -> None:
    """Write the HTML page of a report, of a run or made by hand; where it lacks a section, the page says so."""
    path.write_text(render(report), encoding="utf-8", errors="replace")


def render(report: Report) -> str:
    """The page as one string."""
    templates = Environment(
        loader=PackageLoader("contralign.analysis.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = [
        {"title": plot.title, "src": f"data:image/svg+xml;base64,{base64.b64encode(plot.svg).decode('ascii')}"}
        for plot in training_curves(report.events)
    ]
    return templates.get_template("report.html.j2").render(
        title=report.title,
        facts=facts(report.environment),
        recipe=report.recipe,
        tables=result_tables(report.results),
        plots=plots,
        cards=gallery_cards(report.galleries),
        bad_records=[(stage, found) for stage, found in report.bad_records.items() if isinstance(found, Mapping)],
        top_delta=f"{FULL_COLOUR_DELTA:g}",
    )


def facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, on what: the lines that name a value."""
    versions, git = environment.get("versions") or {}, environment.get("git") or {}
    command = environment.get("command_line")
    known = {
        "command": " ".join(map(str, command)) if isinstance(command, (list, tuple)) else command,
        "seed": environment.get("seed"),
        "commit": f"{git['commit']}{', with changes' if git.get('changed') else ''}" if git.get("commit") else None,
        "device": environment.get("device"),
        "processor": environment.get("processor"),
        "cores": environment.get("cores"),
        "python": environment.get("python"),
        **{name: versions.get(name) for name in ("contralign", "torch", "transformers")},
    }
    return [(name, str(value)) for name, value in known.items() if value is not None]


def gallery_cards(galleries: Mapping[str, Sequence[GallerySample]]) -> list[Card]:
    """One card for every sample of the galleries; first comes the last arm's Δ logit (paper, Figure 2a)."""
    seen: dict[str, dict[str, GallerySample]] = {}
    for arm, samples in galleries.items():
        for sample in samples:
            seen.setdefault(sample.caption.id, {})[arm] = sample
    cards = []
    for sample_id, by_arm in seen.items():
        captions = [
            _coloured_caption(arm, score, sample)
            for arm, sample in reversed(by_arm.items())
            for score in _scores(sample)
        ]
        any_arm = next(iter(by_arm.values()))
        cards.append(
            Card(
                id=sample_id,
                pictures=tuple(map(_inline_image, any_arm.pictures)),
                first=captions[0],
                more=tuple(captions[1:]),
                said=tuple((arm, sample.said) for arm, sample in by_arm.items()),
            )
        )
    return cards


def _inline_image(png: str) -> InlineImage:
    with Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]) as picture:
        return InlineImage(src=f"data:image/png;base64,{png}", is_small=max(picture.size) <= SMALL_SIDE)


def _scores(sample: GallerySample) -> list[str]:
    """Scores that the caption has, "" for a caption without a label."""
    names = dict.fromkeys(score for piece in sample.caption.pieces for score in piece.delta)
    return sorted(names, key=lambda score: list(SCORE_NAMES).index(score) if score in SCORE_NAMES else 9) or [""]


def _coloured_caption(arm: str, score: str, sample: GallerySample) -> ColouredCaption:
    caption: CaptionDelta = sample.caption
    turns = zip(sample.requests, caption.turns, strict=False)
    coloured = ((asked, tuple(_token(piece, score) for piece in caption.of_turn(turn))) for asked, turn in turns)
    return ColouredCaption(arm=arm, score=SCORE_NAMES.get(score, score), turns=tuple(coloured))


def _token(piece: Piece, score: str) -> Token:
    delta = piece.delta.get(score)
    sign = "" if delta is None else "less" if delta < 0 else "more"
    share = 0.0 if delta is None else min(abs(delta) / FULL_COLOUR_DELTA, 1.0)
    text = piece.text.lstrip()
    return Token(
        blank=piece.text[: len(piece.text) - len(text)],
        text=text,
        style=" ".join(word for word in (sign, piece.kind or "") if word),
        share=f"{share:.3f}",
        numbers=_numbers(piece),
    )


def _numbers(piece: Piece) -> str:
    if not piece.delta:
        return "not a label"
    said = [f"{SCORE_NAMES.get(score, score)} {delta:+.2f}" for score, delta in piece.delta.items()]
    if piece.nll is not None and piece.nll_without is not None:
        said.append(f"loss {piece.nll:.2f} with the picture, {piece.nll_without:.2f} without")
    said += [f"weight by {SCORE_NAMES.get(score, score)} {weight:.2f}" for score, weight in piece.weight.items()]
    return "; ".join([*said, piece.kind] if piece.kind else said)
