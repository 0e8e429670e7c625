"""Expansion of image tokens, and truncation that cuts no picture in two (spec 1.3, truncation; 2.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from contralign.batch import IGNORE_INDEX
from contralign.data.text.loss_mask import IMAGE_SENTINEL, EncodedSample


@dataclass(frozen=True, slots=True)
class ExpandedSample(EncodedSample):
    """A sample as token ids, every picture expanded to its image tokens.

    Attributes:
        image_starts: index of each picture's first token; truncated pictures have none.
    """

    image_starts: tuple[int, ...] = ()

    @property
    def label_positions(self) -> tuple[int, ...]:
        """Indices of the label tokens; never the first token, which nothing predicts."""
        return tuple(place for place, label in enumerate(self.labels) if place and label != IGNORE_INDEX)


def expand_images(
    encoded: EncodedSample, blocks: Sequence[Sequence[int]], max_length: int | None = None
) -> ExpandedSample:
    """Replace every sentinel by the picture's token ids, and truncate to `max_length`.

    If the limit is inside a picture, the row ends before it and the picture is dropped.

    Args:
        encoded: a sample with one sentinel a picture.
        blocks: token ids of each picture, in reading order; they have no labels.
        max_length: longest row; None truncates nothing.

    Raises:
        ValueError: other numbers of sentinels and blocks, or `max_length` below 1.
    """
    sentinels = encoded.input_ids.count(IMAGE_SENTINEL)
    if sentinels != len(blocks):
        raise ValueError(f"{sentinels} picture places but {len(blocks)} blocks; give one block for every picture")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length={max_length}: wanted 1 or more, or None")
    limit = max_length if max_length is not None else len(encoded.input_ids) + sum(map(len, blocks))
    ids, labels, spans, starts = [], [], [], []
    for token, label, span in zip(encoded.input_ids, encoded.labels, encoded.token_spans, strict=True):
        is_picture = token == IMAGE_SENTINEL
        block = blocks[len(starts)] if is_picture else (token,)
        if len(ids) + len(block) > limit:
            break
        if is_picture:
            starts.append(len(ids))
        ids += block
        labels += [IGNORE_INDEX] * len(block) if is_picture else [label]
        spans += [None] * len(block) if is_picture else [span]
    return ExpandedSample(tuple(ids), tuple(labels), tuple(spans), tuple(starts))
