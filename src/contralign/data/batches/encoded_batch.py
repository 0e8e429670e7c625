"""A batch that knows the sample, the characters and the kind of every token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Sample
from contralign.data.text.image_token_expansion import ExpandedSample
from contralign.data.text.loss_mask import TokenSpan, kinds


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """A batch, with what evaluation and analysis need to know of its tokens.

    Attributes:
        inputs: what the model takes.
        samples: the sample of every row; None for the empty row of a batch whose samples are all bad.
        rows: the row's tokens before padding.
        offsets: column of each row's first token.
        skipped_records: bad samples that were skipped (`on_bad="skip"`).
    """

    inputs: dict[str, Any]
    samples: tuple[Sample | None, ...]
    rows: tuple[ExpandedSample, ...]
    offsets: tuple[int, ...]
    skipped_records: tuple[BadRecord, ...] = ()

    @property
    def kinds(self) -> list[list[str | None]]:
        """(batch, seq) kind of every token, from the sample's spans; None where no span covers it."""
        return self._columns(lambda sample, row: kinds(sample, row) if sample else [None] * len(row.input_ids))

    @property
    def token_spans(self) -> list[list[TokenSpan | None]]:
        """(batch, seq) characters of an assistant turn that a learned token stands for."""
        return self._columns(lambda sample, row: list(row.token_spans))

    def _columns(self, values: Callable[[Sample | None, ExpandedSample], list[Any]]) -> list[list[Any]]:
        width = self.inputs["input_ids"].shape[1]
        lines = []
        for sample, row, offset in zip(self.samples, self.rows, self.offsets, strict=True):
            line: list[Any] = [None] * width
            line[offset : offset + len(row.input_ids)] = values(sample, row)
            lines.append(line)
        return lines
