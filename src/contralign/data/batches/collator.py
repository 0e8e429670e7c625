"""The collator: samples to padded `input_ids`, `attention_mask`, `labels` and what the vision tower takes."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from contralign.batch import CACHED_DELTA, IGNORE_INDEX
from contralign.data.batches.aspect import ImageAspect
from contralign.data.batches.encoded_batch import EncodedBatch
from contralign.data.batches.image_inputs import ImageInputs, image_inputs
from contralign.data.batches.rows import ReadSample, Row, cached_delta, empty_row
from contralign.data.records.bad_record import BadRecord, one_line
from contralign.data.records.messages import Sample, open_image
from contralign.data.scores.score_digest import image_processor_digest, tokenizer_digest
from contralign.data.scores.score_file import ScoreFile
from contralign.data.text.image_token_expansion import expand_images
from contralign.data.text.loss_mask import EncodedSample, encode, resolve_template
from contralign.data.text.templates import Template

logger = logging.getLogger(__name__)

PaddingSide = Literal["right", "left"]

_REFUSALS = (ValueError, ArithmeticError, MemoryError)
"""What processors raise of pictures that they do not take, such as very long ones."""

MARKS_ANSWERS = frozenset({"PaliGemmaProcessor"})
"""Processors whose `token_type_ids` are 1 at the answer; where they are 0, a PaliGemma reads in both directions."""


class VLCollator:
    """Collates samples into a batch.

    The batch holds `input_ids`, `attention_mask` and `labels` (batch, seq), and what the processor makes of the
    pictures (`pixel_values`, `image_sizes` …; absent if no row has one). The processor decides which tokens a picture
    takes. With `keep_pictures`, `pictures` holds a tuple of original pictures a row. With `scores`, `cached_delta`
    (batch, seq), float32, holds their column (Δ by default) at label tokens and 0 elsewhere.

    Args:
        processor: a Hugging Face processor, or a bare tokenizer for text alone. It needs a pad token.
        template: plain, vicuna_v1, gemma, chat (the model's own), or a template.
        max_length: longest row, in tokens; the rest is truncated, no picture in two. None truncates nothing.
        keep_pictures: keep the original pictures, for contrasts that degrade them.
        on_bad: for a picture that cannot be decoded and a sample without a label: "error" raises, "skip" drops the row,
            counts it in `skipped` and logs it once.
        image_aspect: before the processor: "processor" does nothing, "pad" pads a picture to a square with the mean
            colour, "square" crops it to a square.
        padding_side: "right" for training.
        scores: Δ of the samples, or another column, for `CalConfig(scores=FILE)`.

    Attributes:
        skipped: number of rows skipped by this process, by reason; a record that comes again counts again.
        skipped_records: what was wrong with their records, by name.

    Raises:
        ValueError: an unknown setting, or one that has no effect on a bare tokenizer; no pad token; no chat template.
        ScoreMismatch: the score file was made with other settings.
    """

    def __init__(
        self,
        processor: Any,
        template: str | Template = "chat",
        max_length: int | None = None,
        keep_pictures: bool = False,
        on_bad: Literal["error", "skip"] = "error",
        image_aspect: ImageAspect = "processor",
        padding_side: PaddingSide = "right",
        scores: ScoreFile | None = None,
    ) -> None:
        _refuse_unknown("on_bad", on_bad, ("error", "skip"))
        _refuse_unknown("image_aspect", image_aspect, get_args(ImageAspect))
        _refuse_unknown("padding_side", padding_side, get_args(PaddingSide))
        if max_length is not None and max_length < 2:
            raise ValueError(f"max_length={max_length}: wanted 2 or more, or None")
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.reads_pictures = self.tokenizer is not processor
        if not self.reads_pictures and (keep_pictures or image_aspect != "processor"):
            raise ValueError("keep_pictures and image_aspect have no effect on a bare tokenizer; give a processor")
        if self.tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no pad token; set tokenizer.pad_token (its unk_token does for LLaMA)")
        self.template = resolve_template(template, processor)
        self.template_name = template if isinstance(template, str) else type(template).__name__
        self.max_length = max_length
        self.keep_pictures = keep_pictures
        self.on_bad = on_bad
        self.image_aspect: ImageAspect = image_aspect
        self.padding_side = padding_side
        self.skipped: Counter[str] = Counter()
        self.skipped_records: dict[str, BadRecord] = {}
        names = processor.model_input_names if self.reads_pictures else ()
        self.token_fields = tuple(name for name in names if name.endswith("token_type_ids"))
        self._answer = int(type(processor).__name__ in MARKS_ANSWERS)
        self.scores = scores
        if scores is not None:
            scores.check(self.settings)

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The batch as the model's keyword arguments."""
        return self.encode_batch(samples).inputs

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that token ids and pixels depend on; a score file records them."""
        return {
            "template": self.template_name,
            "max_length": self.max_length,
            "image_aspect": self.image_aspect,
            "tokenizer": tokenizer_digest(self.tokenizer),
            "image_processor": image_processor_digest(self.processor),
        }

    def with_scores(self, scores: ScoreFile | None) -> VLCollator:
        """A copy with Δ of another file in its batches, or none; both count into the same `skipped`.

        Raises:
            ScoreMismatch: the score file was made with other settings.
        """
        if scores is not None:
            scores.check(self.settings)
        other = copy.copy(self)
        other.scores = scores
        return other

    def with_own_counts(self) -> VLCollator:
        """A copy with its own `skipped` and `skipped_records`, for batches that are not trained on."""
        other = copy.copy(self)
        other.skipped, other.skipped_records = Counter(), {}
        return other

    def check(self, sample: Sample) -> None:
        """Refuse a sample without labels. Pictures are not opened, so truncation is not foreseen.

        Raises:
            BadRecord: the template refuses it, or finds no answer in it.
        """
        self._encode(sample)

    def encode_batch(self, samples: Sequence[Sample]) -> EncodedBatch:
        """The batch, with the sample, characters and kind of every token.

        Raises:
            BadRecord: a bad sample under `on_bad="error"`.
            ScoreMismatch: the score file does not hold a sample as it is now.
            TypeError: records in place of samples.
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("an empty batch; wanted at least one sample")
        other = next((sample for sample in samples if not isinstance(sample, Sample)), None)
        if other is not None:
            raise TypeError(
                f"a sample of type {type(other).__name__}: wanted those of contralign.data.load_samples"
                ", which reads LLaVA records and chat messages, from files, datasets and lists"
            )
        read: list[ReadSample] = []
        skipped_records: list[BadRecord] = []
        for sample in samples:
            with self._bad_may_be_skipped(sample, skipped_records):
                read.append(self._read(sample))
        read, made = self._make_all(read, skipped_records)
        rows: list[Row] = []
        first = 0
        for line in read:
            own = slice(first, first + len(line.pictures))
            first = own.stop
            with self._bad_may_be_skipped(line.sample, skipped_records):
                rows.append(self._splice(line, made, own))
        kept = [picture for row in rows for picture in row.pictures]
        vision = made.vision if len(kept) == first else self.image_inputs(kept)
        return self._batch(rows or [empty_row(self.tokenizer.pad_token_id)], vision, tuple(skipped_records))

    def _make_all(
        self, read: list[ReadSample], skipped_records: list[BadRecord]
    ) -> tuple[list[ReadSample], ImageInputs]:
        """The processor's output for all pictures; where it refuses some, without the records they are of."""
        try:
            return read, self._make([picture for line in read for picture in line.pictures])
        except _REFUSALS:
            taken: list[ReadSample] = []
            for line in read:
                with self._bad_may_be_skipped(line.sample, skipped_records):
                    self._try(line.pictures)
                    taken.append(line)
            if len(taken) == len(read):
                raise  # no single record is to blame
            return taken, self._make([picture for line in taken for picture in line.pictures])

    def _try(self, pictures: Sequence[Image.Image]) -> None:
        try:
            self._make(pictures)
        except BadRecord:
            raise
        except _REFUSALS as error:
            sizes = ", ".join(f"{width} x {height}" for width, height in (picture.size for picture in pictures))
            said = f"the processor refuses pictures of {sizes} pixels: {one_line(error)}"
            raise BadRecord("refused_picture", said) from error

    def image_inputs(self, pictures: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The vision tower's inputs for pictures, as in a batch; for contrasts that degrade pictures."""
        return self._make(pictures).vision

    def _make(self, pictures: Sequence[Image.Image]) -> ImageInputs:
        return image_inputs(self.processor, pictures, self.image_aspect)

    @contextmanager
    def _bad_may_be_skipped(self, sample: Sample, skipped_records: list[BadRecord]) -> Iterator[None]:
        try:
            yield
        except BadRecord as fault:
            named = fault.named(f"{sample.source}, {sample.id}" if sample.source else sample.id)
            if self.on_bad == "error":
                raise named from fault
            skipped_records.append(named)
            self.skipped[fault.reason] += 1
            if named.record not in self.skipped_records:
                self.skipped_records[named.record] = named
                logger.warning("skipped: %s", named)

    def _read(self, sample: Sample) -> ReadSample:
        if sample.pictures and not self.reads_pictures:
            raise BadRecord("no_picture_place", "a sample with pictures, but the collator has a bare tokenizer")
        return ReadSample(sample, self._encode(sample), tuple(open_image(picture) for picture in sample.pictures))

    def _encode(self, sample: Sample) -> EncodedSample:
        encoded = encode(sample, self.template, self.processor, self.max_length)
        if encoded.num_labels == 0:
            raise BadRecord("no_label", "the template finds no answer to learn in this sample")
        return encoded

    def _splice(self, read: ReadSample, made: ImageInputs, own: slice) -> Row:
        blocks = made.blocks[own]
        tokens = expand_images(read.encoded, blocks, self.max_length)
        if tokens.num_labels == 0:
            raise BadRecord(
                "no_label_left",
                f"no label is left of {len(read.encoded.input_ids) - len(blocks)} text tokens and "
                f"{sum(map(len, blocks))} image tokens after cutting to max_length={self.max_length}; raise it",
            )
        fields = {name: values[own] for name, values in made.token_fields.items()}
        return Row(read.sample, tokens, read.pictures[: len(tokens.image_starts)], fields)

    def _batch(
        self, rows: Sequence[Row], vision: dict[str, Tensor], skipped_records: tuple[BadRecord, ...]
    ) -> EncodedBatch:
        width = max(len(row.tokens.input_ids) for row in rows)
        offsets = [0 if self.padding_side == "right" else width - len(row.tokens.input_ids) for row in rows]

        def padded(values: Callable[[Row], Sequence[int]], filling: int) -> Tensor:
            matrix = torch.full((len(rows), width), filling)
            for line, row, begin in zip(matrix, rows, offsets, strict=True):
                line[begin : begin + len(row.tokens.input_ids)] = torch.tensor(values(row))
            return matrix

        inputs: dict[str, Any] = {
            "input_ids": padded(lambda row: row.tokens.input_ids, self.tokenizer.pad_token_id),
            "attention_mask": padded(lambda row: [1] * len(row.tokens.input_ids), 0),
            "labels": padded(lambda row: row.tokens.labels, IGNORE_INDEX),
            **{name: padded(lambda row, name=name: row.field(name, self._answer), 0) for name in self.token_fields},
            **vision,
        }
        if self.keep_pictures:
            inputs["pictures"] = tuple(row.pictures for row in rows)
        if self.scores is not None:
            inputs[CACHED_DELTA] = cached_delta(self.scores, rows, offsets, width)
        return EncodedBatch(
            inputs=inputs,
            samples=tuple(row.sample for row in rows),
            rows=tuple(row.tokens for row in rows),
            offsets=tuple(offsets),
            skipped_records=skipped_records,
        )


def _refuse_unknown(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: wanted {' or '.join(choices)}")
