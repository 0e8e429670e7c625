"""`StreamedSamples`: an endless, resumable stream of samples, for data larger than disk or memory.

A pass reads all shards in an order drawn from (seed, pass), through a shuffle buffer. The stream has no end: pass
follows pass, so ranks with parts of different length never wait for each other. Checkpoints hold nothing of it: a
resumed run skips the records that were trained on, without opening their pictures.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any, get_args

from torch.utils.data import IterableDataset

from contralign.data.records.bad_record import BadRecord
from contralign.data.records.messages import Sample
from contralign.data.records.mixture import LoadReport, OnBad, root_for_each
from contralign.data.records.raw_record import RawRecord, streamed_sample
from contralign.data.records.skipped_records import SkippedRecords, SkippedRecordsWriter, reader_number
from contralign.data.streams.shards import HubShard, Shard, find_shards

logger = logging.getLogger(__name__)

SHUFFLE_BUFFER = 1000
_FRUITLESS_PASSES = 20

_Found = tuple[Shard | HubShard, RawRecord | BadRecord]


class AlreadySeen:
    """Stands in a batch for a record that a resumed run skips, since it was trained on."""


ALREADY_SEEN = AlreadySeen()


class StreamedSamples(IterableDataset[Sample]):
    """An endless stream of samples; pictures are located, read and checked when a batch needs them.

    A reader is a loader worker of a rank. If the number of shards is a multiple of the number of readers, each shard is
    read by one reader; otherwise every reader reads all shards and takes each n-th record. Either way one pass yields
    every record once.

    Args:
        sources: see `contralign.data.streams.shards.find_shards`; several are joined.
        image_roots: one folder for all sources, or one (or None) for each.
        on_bad: "error" raises at a bad record, "skip" skips, notes and logs it.
        shuffle_buffer: number of records that the next one is drawn from; 1 keeps the order in a shard.
        seed: of the order; None keeps that of the sources.
        passes: number of passes; None never ends.
        change: applied to every sample; must be picklable if workers are spawned.

    Attributes:
        shards: all shards of the sources.

    Raises:
        ValueError: a source that is missing or cannot be streamed, or other numbers of roots and sources.
    """

    def __init__(
        self,
        sources: str | Path | Sequence[str | Path],
        image_roots: str | Path | Sequence[str | Path | None] | None = None,
        *,
        on_bad: OnBad = "error",
        shuffle_buffer: int = SHUFFLE_BUFFER,
        seed: int | None = 0,
        passes: int | None = None,
        change: Callable[[Sample], Sample] | None = None,
    ) -> None:
        if on_bad not in get_args(OnBad):
            raise ValueError(f"on_bad={on_bad!r}: wanted error or skip")
        if shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer={shuffle_buffer}: wanted 1 or more")
        listed = [sources] if isinstance(sources, (str, Path)) else sources
        self.shards = tuple(
            shard
            for source, root in zip(listed, root_for_each(image_roots, len(listed)), strict=True)
            for shard in find_shards(source, root)
        )
        self.on_bad: OnBad = on_bad
        self.shuffle_buffer = shuffle_buffer
        self.seed = seed
        self.passes = passes
        self.change = change
        self.rank, self.ranks = 0, 1
        self._skipped = SkippedRecords()
        self._seen_batches, self._batch_size = 0, 1
        self._notes: SkippedRecordsWriter | None = None

    def part(self, rank: int, ranks: int, seed: int, notes: Path) -> StreamedSamples:
        """The part of one rank.

        Args:
            rank: from 0 on.
            ranks: number of ranks that share the stream.
            seed: of the order, instead of the stream's own.
            notes: folder of skipped records, the same on every rank.
        """
        part = copy.copy(self)
        part.rank, part.ranks, part.seed = rank, ranks, seed
        self._skipped = part._skipped = SkippedRecords(notes)
        return part

    def one_pass(self) -> StreamedSamples:
        """All samples once, in the order of the sources."""
        whole = copy.copy(self)
        whole.rank, whole.ranks, whole.seed, whole.passes = 0, 1, None, 1
        whole._skipped, whole._seen_batches = SkippedRecords(), 0
        return whole

    @property
    def samples(self) -> StreamedSamples:
        """`one_pass`, under the name that `SampleSet` has for all samples."""
        return self.one_pass()

    @property
    def report(self) -> LoadReport:
        """Records skipped so far, each once; the total counts a record in every pass."""
        return self._skipped.report()

    def fast_forward(self, batches: int, batch_size: int) -> None:
        """Yield `ALREADY_SEEN` for the samples of the first batches; their pictures are not opened.

        Args:
            batches: of this rank, over all its workers.
            batch_size: samples in a batch.
        """
        self._seen_batches, self._batch_size = batches, batch_size

    def note_skipped(self, fault: BadRecord) -> None:
        """Note a sample that this reader yielded, and whose pictures its batch found to be bad."""
        if self._notes is not None:
            self._notes.add(fault, given=True)

    def __iter__(self) -> Iterator[Any]:
        reader, readers = reader_number(self.rank, self.ranks)
        workers = readers // self.ranks
        worker = reader % workers
        to_skip = len(range(worker, self._seen_batches, workers)) * self._batch_size
        self._notes = notes = self._skipped.reader(reader)
        try:
            for sample in self._endless(reader, readers, notes, to_skip):
                yield ALREADY_SEEN if to_skip > 0 else sample
                to_skip -= 1
        finally:
            self._notes = None
            notes.close()

    def _endless(
        self, reader: int, readers: int, notes: SkippedRecordsWriter, unread: int
    ) -> Iterator[Sample | AlreadySeen]:
        """The samples of one reader, pass after pass; bad records are noted or raised.

        Under `on_bad="error"` the first `unread` records, which were trained on, must be good and are not parsed.
        """
        fruitless = 0
        for number in count() if self.passes is None else range(self.passes):
            fruitless += 1
            for shard, record in self._drawn(number, reader, readers):
                if unread > 0 and self.on_bad == "error":
                    unread -= 1
                    sample: Sample | AlreadySeen | None = ALREADY_SEEN
                else:
                    sample = self._read(shard, record, notes)
                if sample is not None:
                    fruitless = 0
                    notes.count()
                    yield sample
            if fruitless == _FRUITLESS_PASSES:
                raise ValueError(self._why_fruitless(reader, readers))

    def _drawn(self, number: int, reader: int, readers: int) -> Iterator[_Found]:
        """Records of one pass in the order of one reader, not parsed."""
        shards = list(self.shards)
        if self.seed is not None:
            Random(f"{self.seed} {number}").shuffle(shards)
        whole = len(shards) % readers == 0
        mine = shards[reader::readers] if whole else shards
        records: Iterator[_Found] = ((shard, record) for shard in mine for record in shard.records())
        if not whole:
            records = islice(records, reader, None, readers)
        if self.seed is None or self.shuffle_buffer == 1:
            return records
        return _shuffled(records, self.shuffle_buffer, Random(f"{self.seed} {number} {reader}"))

    def _read(
        self, shard: Shard | HubShard, record: RawRecord | BadRecord, notes: SkippedRecordsWriter
    ) -> Sample | None:
        """The sample; None if it is bad and skipped."""
        try:
            if isinstance(record, BadRecord):
                raise record
            sample = streamed_sample(record, shard.root, shard.name)
        except BadRecord as fault:
            if self.on_bad == "error" or fault.reason == "no_image_root":
                raise
            if notes.add(fault):
                logger.warning("skipped: %s", fault)
            return None
        return sample if self.change is None else self.change(sample)

    def _why_fruitless(self, reader: int, readers: int) -> str:
        return (
            f"{_FRUITLESS_PASSES} passes gave reader {reader} of {readers} no good record of {len(self.shards)} shards "
            f"({self.report}): mend them, or lower trainer.dataloader_num_workers, since every worker of every rank "
            "needs records"
        )


def _shuffled(records: Iterator[_Found], size: int, draws: Random) -> Iterator[_Found]:
    """The records in the random order of a buffer of `size`."""
    held = list(islice(records, size))
    for found in records:
        place = draws.randrange(size)
        yield held[place]
        held[place] = found
    draws.shuffle(held)
    yield from held
