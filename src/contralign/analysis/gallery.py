"""The gallery of a run: images of a few samples, their reference captions with Δ, and the captions the model writes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from contralign.analysis.caption_delta import CaptionDelta, read_json_lines, write_json_lines
from contralign.data.records.messages import IMAGE, ImageSource, Sample, open_image

LONGEST_SIDE = 384
"""Pixels; larger pictures are scaled down to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GallerySample:
    """One sample as one model sees it.

    Attributes:
        pictures: PNG files in base64.
        requests: what the user says before each assistant turn.
        caption: the reference answers with their Δ.
        said: the model's own last answer.
    """

    pictures: tuple[str, ...]
    requests: tuple[str, ...]
    caption: CaptionDelta
    said: str

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> GallerySample:
        """What `dataclasses.asdict` gave."""
        return cls(
            pictures=tuple(record["pictures"]),
            requests=tuple(record["requests"]),
            caption=CaptionDelta.from_dict(record["caption"]),
            said=record["said"],
        )


def gallery_samples(
    samples: Sequence[Sample], captions: Sequence[CaptionDelta], said: Sequence[str]
) -> list[GallerySample]:
    """The gallery of samples, from what was computed of each.

    Args:
        samples: in any order, ids unique.
        captions: from `token_delta`; a sample without one is left out.
        said: the model's own answer to every sample.

    Raises:
        BadRecord: a picture that cannot be decoded.
        ValueError: other numbers of samples and answers.
    """
    by_id = {caption.id: caption for caption in captions}
    return [
        GallerySample(
            pictures=tuple(png_base64(picture) for picture in sample.pictures),
            requests=_requests(sample),
            caption=by_id[sample.id],
            said=answer,
        )
        for sample, answer in zip(samples, said, strict=True)
        if sample.id in by_id
    ]


def write_gallery(path: Path, shown: Sequence[GallerySample]) -> None:
    """One JSON object a line."""
    write_json_lines(path, map(asdict, shown))


def read_gallery(path: Path) -> list[GallerySample]:
    """What `write_gallery` wrote."""
    return [GallerySample.from_dict(record) for record in read_json_lines(path)]


def png_base64(picture: ImageSource) -> str:
    """The picture as a PNG of at most `LONGEST_SIDE` pixels a side."""
    shown = open_image(picture).copy()
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    png = io.BytesIO()
    shown.save(png, format="PNG")
    return base64.b64encode(png.getvalue()).decode("ascii")


def _requests(sample: Sample) -> tuple[str, ...]:
    """The user's words before each assistant turn."""
    return tuple(
        sample.turns[index - 1].text.replace(IMAGE, "").strip()
        for index, turn in enumerate(sample.turns)
        if turn.role == "assistant"
    )
