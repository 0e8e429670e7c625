"""From samples to the tensors a model takes: every picture at its full length, rows padded, labels only on answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from contralign.batch import IGNORE_INDEX
from contralign.data.aspect import ASPECTS, ImageAspect
from contralign.data.bad_record import BadRecord
from contralign.data.chat_template import image_marker
from contralign.data.loss_mask import Encoded, TokenSpan, encode, kinds, resolve_template
from contralign.data.messages import Sample, open_picture
from contralign.data.splice import Spliced, splice
from contralign.data.templates import Template

logger = logging.getLogger(__name__)

PaddingSide = Literal["right", "left"]


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """A batch with what evaluation and analysis want to know about it.

    Attributes:
        inputs: what the model takes.
        samples: the sample of every row; None for the empty row that stands for a batch with no good sample.
        rows: the row's tokens before padding.
        offsets: the column where each row begins.
    """

    inputs: dict[str, Any]
    samples: tuple[Sample | None, ...]
    rows: tuple[Spliced, ...]
    offsets: tuple[int, ...]

    @property
    def kinds(self) -> list[list[str | None]]:
        """(batch, seq) kind of every token, from the sample's spans; None where no span covers it."""
        return self._columns(lambda sample, row: kinds(sample, row) if sample else [None] * len(row.input_ids))

    @property
    def token_spans(self) -> list[list[TokenSpan | None]]:
        """(batch, seq) characters of an assistant turn that a learned token stands for."""
        return self._columns(lambda sample, row: list(row.token_spans))

    def _columns(self, values: Callable[[Sample | None, Spliced], list[Any]]) -> list[list[Any]]:
        width = self.inputs["input_ids"].shape[1]
        lines = []
        for sample, row, offset in zip(self.samples, self.rows, self.offsets, strict=True):
            line: list[Any] = [None] * width
            line[offset : offset + len(row.input_ids)] = values(sample, row)
            lines.append(line)
        return lines


class VLCollator:
    """Makes batches of samples.

    Returns `input_ids`, `attention_mask` and `labels` (batch, seq), whatever the processor makes of the pictures
    (`pixel_values`, `image_sizes` …; absent from a batch of text alone), and `pictures` under `keep_pictures`: for every
    row the tuple of its original pictures. How many tokens a picture takes, and which, is what the processor says.

    Args:
        processor: a Hugging Face processor, or a bare tokenizer for text alone. It needs a pad token.
        template: plain, vicuna_v1, gemma, chat (the model's own), or a template.
        max_length: longest row; what goes beyond is cut, a picture never in two. None cuts nothing.
        keep_pictures: keep the original pictures, for contrasts that degrade them.
        on_bad: what becomes of a picture that cannot be decoded and of a sample with no label left: "error" raises,
            "skip" leaves the row out, counts it in `skipped` and logs it once.
        image_aspect: what is done to a picture before the processor: "processor" nothing, "pad" pads it to a square
            with the mean colour, "square" crops it to a square.
        padding_side: "right" for training.

    Raises:
        ValueError: an unknown setting, or one that has no effect on a bare tokenizer; no pad token; no chat template.
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
    ) -> None:
        _check_choice("on_bad", on_bad, ("error", "skip"))
        _check_choice("image_aspect", image_aspect, get_args(ImageAspect))
        _check_choice("padding_side", padding_side, get_args(PaddingSide))
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
        self.max_length = max_length
        self.keep_pictures = keep_pictures
        self.on_bad = on_bad
        self.image_aspect = image_aspect
        self.padding_side = padding_side
        self.skipped: Counter[str] = Counter()
        self._named: set[str] = set()

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The batch as a model takes it."""
        return self.encode_batch(samples).inputs

    def check(self, sample: Sample) -> None:
        """Refuse a sample that gives nothing to learn; pictures are not opened, so cutting is not foreseen.

        Raises:
            BadRecord: the template cannot lay it out, or finds no answer in it.
        """
        self._encode(sample)

    def encode_batch(self, samples: Sequence[Sample]) -> EncodedBatch:
        """The batch, and which sample, characters and kind every token belongs to.

        Raises:
            BadRecord: a bad sample under `on_bad="error"`.
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("an empty batch; wanted at least one sample")
        read = [good for sample in samples if (good := self._guarded(sample, self._read)) is not None]
        blocks, vision = self.picture_inputs([picture for _, _, pictures in read for picture in pictures])
        good: list[tuple[Sample, Spliced, tuple[Image.Image, ...]]] = []
        for sample, encoded, pictures in read:
            own, blocks = blocks[: len(pictures)], blocks[len(pictures) :]
            row = self._guarded(sample, lambda _, encoded=encoded, own=own: self._splice(encoded, own))
            if row is not None:
                good.append((sample, row, pictures[: row.num_pictures]))
        if not good:
            return self._batch((None,), (_empty_row(self.tokenizer.pad_token_id),), ((),), {})
        kept = [picture for _, _, pictures in good for picture in pictures]
        if len(kept) < sum(len(pictures) for _, _, pictures in read):
            _, vision = self.picture_inputs(kept)
        return self._batch(*zip(*good, strict=True), vision)

    def picture_inputs(self, pictures: Sequence[Image.Image]) -> tuple[list[tuple[int, ...]], dict[str, Tensor]]:
        """The ids each picture takes in a row, and the tensors that the vision tower takes.

        Contrasts that degrade pictures use it too: the same pictures in another state give the same ids.
        """
        if not pictures:
            return [], {}
        shaped = [[ASPECTS[self.image_aspect](picture)] for picture in pictures]
        marker = image_marker(self.processor)
        made = self.processor(
            text=[marker] * len(shaped),
            images=shaped,
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        ids, present = made["input_ids"], made["attention_mask"].bool()
        blocks = [tuple(row[here].tolist()) for row, here in zip(ids, present, strict=True)]
        tokens = {name for name, value in made.items() if value.shape == ids.shape}
        return blocks, {name: value for name, value in made.items() if name not in tokens}

    def _guarded(self, sample: Sample, step: Callable[[Sample], Any]) -> Any:
        """What the step makes of a sample; None where it is bad and may be skipped."""
        try:
            return step(sample)
        except BadRecord as fault:
            if self.on_bad == "error":
                raise fault.named(_name(sample)) from fault
            self.skipped[fault.reason] += 1
            if _name(sample) not in self._named:
                self._named.add(_name(sample))
                logger.warning("skipped: %s", fault.named(_name(sample)))
            return None

    def _read(self, sample: Sample) -> tuple[Sample, Encoded, tuple[Image.Image, ...]]:
        if sample.pictures and not self.reads_pictures:
            raise BadRecord("no_picture_place", "a sample with pictures, but the collator has a bare tokenizer")
        return sample, self._encode(sample), tuple(open_picture(picture) for picture in sample.pictures)

    def _encode(self, sample: Sample) -> Encoded:
        encoded = encode(sample, self.template, self.processor, self.max_length)
        if encoded.num_labels == 0:
            raise BadRecord("no_label", "the template finds no answer to learn in this sample")
        return encoded

    def _splice(self, encoded: Encoded, blocks: Sequence[Sequence[int]]) -> Spliced:
        row = splice(encoded, blocks, self.max_length)
        if row.num_labels == 0:
            raise BadRecord(
                "no_label_left",
                f"no label is left of {len(encoded.input_ids) - len(blocks)} text tokens and {sum(map(len, blocks))} "
                f"image tokens after cutting to max_length={self.max_length}; raise it",
            )
        return row

    def _batch(
        self,
        samples: tuple[Sample | None, ...],
        rows: tuple[Spliced, ...],
        pictures: tuple[tuple[Image.Image, ...], ...],
        vision: dict[str, Tensor],
    ) -> EncodedBatch:
        width = max(len(row.input_ids) for row in rows)
        offsets = tuple(0 if self.padding_side == "right" else width - len(row.input_ids) for row in rows)
        shape = (len(rows), width)
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORE_INDEX)
        for index, (row, begin) in enumerate(zip(rows, offsets, strict=True)):
            here = slice(begin, begin + len(row.input_ids))
            ids[index, here] = torch.tensor(row.input_ids)
            mask[index, here] = 1
            labels[index, here] = torch.tensor(row.labels)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "labels": labels, **vision}
        if self.keep_pictures:
            inputs["pictures"] = pictures
        return EncodedBatch(inputs=inputs, samples=samples, rows=rows, offsets=offsets)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: wanted {' or '.join(choices)}")


def _name(sample: Sample) -> str:
    return f"{sample.source}, {sample.id}" if sample.source else sample.id


def _empty_row(pad_token: int) -> Spliced:
    """Two tokens and nothing to learn: what is left of a batch without a good sample."""
    return Spliced((pad_token,) * 2, (IGNORE_INDEX,) * 2, (None, None))
