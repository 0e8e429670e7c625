"""Rows of a batch before they are padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from contralign.batch import IGNORE_INDEX
from contralign.data.records.messages import Sample
from contralign.data.scores.score_file import ScoreFile
from contralign.data.text.image_token_expansion import ExpandedSample
from contralign.data.text.loss_mask import EncodedSample


@dataclass(frozen=True)
class ReadSample:
    """A sample with its tokens and its pictures, opened."""

    sample: Sample
    encoded: EncodedSample
    pictures: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Row:
    """One row of a batch before padding; without a sample it stands for none."""

    sample: Sample | None
    tokens: ExpandedSample
    pictures: tuple[Image.Image, ...]
    fields: dict[str, list[tuple[int, ...]]]

    def field(self, name: str, answer: int = 0) -> list[int]:
        """A field of the row's tokens: the processor's in pictures, 0 in text, `answer` from the first label on."""
        begin = min(self.tokens.label_positions, default=len(self.tokens.input_ids))
        values = [0] * begin + [answer] * (len(self.tokens.input_ids) - begin)
        for start, block in zip(self.tokens.image_starts, self.fields.get(name, ()), strict=False):
            values[start : start + len(block)] = block
        return values


def cached_delta(scores: ScoreFile, rows: Sequence[Row], offsets: Sequence[int], width: int) -> Tensor:
    """(batch, seq) float32: the file's values at the label tokens of every row, 0 elsewhere."""
    cached = torch.zeros(len(rows), width)
    for line, row, begin in zip(cached, rows, offsets, strict=True):
        if row.sample is not None:
            places = torch.tensor(row.tokens.label_positions) + begin
            line[places] = torch.tensor(scores.values_of(row.sample, row.tokens))
    return cached


def empty_row(pad_token: int) -> Row:
    """Two tokens without labels: the row of a batch whose samples are all bad."""
    return Row(None, ExpandedSample((pad_token,) * 2, (IGNORE_INDEX,) * 2, (None, None)), (), {})
