"""The order of training records, LLaVA's or a stream's: it depends on seeds alone, so a resumed run keeps it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import get_dataloader_sampler

from contralign.checkpoints.loader_errors import CarryingStream, collate_or_carry
from contralign.checkpoints.manifest import last_whole_checkpoint
from contralign.checkpoints.nan_guard import RecordIdCollator
from contralign.checkpoints.stopping import IgnoreFirstSigterm
from contralign.data.batches.collator import VLCollator
from contralign.data.batches.modality_sampler import epoch_generator, modality_length_order
from contralign.data.records.bad_record import BadRecord
from contralign.data.records.skipped_records import SkippedInBatches, SkippedRecords
from contralign.data.streams.streaming import ALREADY_SEEN, StreamedSamples

SKIPPED_FOLDER = "left_out"
"""Folder beside the checkpoints that lists the records which batches and streams have skipped."""


class ModalityLengthSampler(Sampler[int]):
    """The order of `contralign.data.batches.modality_sampler`: new in every epoch, the same on every rank.

    The original draws from torch's global generator, so its order depends on all earlier draws; this one depends on
    seed and epoch alone, which a resumed run needs.

    Args:
        lengths: of `modality_lengths`.
        batch_size: records of one rank and micro-batch.
        num_chunks: ranks times micro-batches a step.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, num_chunks: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.num_chunks = num_chunks
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next pass is that of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        draws = epoch_generator(self.seed, self.epoch)
        yield from modality_length_order(
            self.lengths, self.batch_size, self.num_chunks, generator=draws, shuffle_generator=draws
        )


class SamplingTrainer(Trainer):
    """A Trainer that can order its records by modality and length, and that takes `StreamedSamples`.

    Ranks share a stream without accelerate, which would have rank 0 read for all and split its batches by rows; that
    is wrong where a batch has more pictures than rows. A stream has no end (`max_steps` ends training), so no rank
    waits for another. A resumed run skips the records it has trained on without opening their pictures.
    """

    _modality_lengths: Sequence[int] | None = None
    _stream: StreamedSamples | None = None

    def group_by_modality(self, lengths: Sequence[int]) -> None:
        """Take the training records in the order of `ModalityLengthSampler`.

        Args:
            lengths: of `contralign.data.batches.modality_sampler.modality_lengths`, one for every training record.

        Raises:
            ValueError: other numbers of lengths and records, or a sampling strategy of the Trainer's own.
        """
        records = getattr(self.train_dataset, "__len__", lambda: 0)()
        if len(lengths) != records:
            raise ValueError(f"{len(lengths)} lengths for {records} training records; give one for each, in order")
        if self.args.train_sampling_strategy != "random":
            raise ValueError(
                f"train_sampling_strategy={self.args.train_sampling_strategy!r} has no effect where records are "
                "ordered by modality and length: leave one of them out"
            )
        self._modality_lengths = lengths

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """`ModalityLengthSampler` if lengths were given; seeded by `data_seed`, or `seed` where that is None."""
        if self._modality_lengths is None:
            return super()._get_train_sampler(train_dataset)
        return ModalityLengthSampler(
            self._modality_lengths,
            batch_size=self._train_batch_size,
            num_chunks=self.args.world_size * self.args.gradient_accumulation_steps,
            seed=self._data_seed,
        )

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def get_train_dataloader(self) -> DataLoader:
        """The usual loader; over a stream, one that reads this rank's part.

        Raises:
            ValueError: a stream under tensor, context or sequence parallelism, where ranks take the same batches.
        """
        notes = self._notes()
        if not isinstance(self.train_dataset, StreamedSamples):
            return self._loader_of_all(SkippedInBatches(SkippedRecords(notes), self.accelerator.process_index))
        args, accelerator = self.args, self.accelerator
        sharers = self.get_total_train_batch_size(args) // (self._train_batch_size * args.gradient_accumulation_steps)
        if sharers != accelerator.num_processes:
            raise ValueError(
                f"a stream is dealt to {accelerator.num_processes} ranks, but {sharers} take batches of their own: "
                "train without tensor, context and sequence parallelism, or without data.streaming"
            )
        self._stream = self.train_dataset.part(
            accelerator.process_index, accelerator.num_processes, self._data_seed, notes
        )
        loader = DataLoader(
            CarryingStream(self._stream),
            batch_size=self._train_batch_size,
            collate_fn=_noting(cast(Callable[..., Any], self.data_collator), self._stream.note_skipped),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            worker_init_fn=IgnoreFirstSigterm(None),
        )
        alone = prepare_data_loader(
            loader,
            device=accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=accelerator.device_placement,
            dispatch_batches=False,
            non_blocking=accelerator.non_blocking,
        )
        alone._is_accelerate_prepared = True  # type: ignore[attr-defined]
        return cast(DataLoader, accelerator.prepare(alone))

    def _notes(self) -> Path:
        """The folder of skipped records: emptied where a run begins, kept where one resumes."""
        folder = Path(str(self.args.output_dir))
        begins = last_whole_checkpoint(folder) is None  # the ranks find out together
        with self.accelerator.main_process_first():
            if begins and self.accelerator.is_main_process:
                shutil.rmtree(folder / SKIPPED_FOLDER, ignore_errors=True)
        return folder / SKIPPED_FOLDER

    def _loader_of_all(self, note_skipped: Callable[[BadRecord], None]) -> DataLoader:
        """The usual loader; the records that its batches skip are noted."""
        collate = self.data_collator
        self.data_collator = _noting(cast(Callable[..., Any], collate), note_skipped)
        try:
            loader: Any = super().get_train_dataloader()
        finally:
            self.data_collator = collate
        loader.worker_init_fn = IgnoreFirstSigterm(loader.worker_init_fn)
        return loader

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The usual epoch, after telling the sampler its number and a stream how many batches to skip on resume."""
        if self._stream is not None and kwargs["resume_from_checkpoint"] is not None:
            self._stream.fast_forward(kwargs["steps_trained_in_current_epoch"], self._train_batch_size)
        sampler = get_dataloader_sampler(kwargs["train_dataloader"])  # below accelerate's wrappers
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(kwargs["epoch"])  # type: ignore[union-attr]
        super()._run_epoch(*args, **kwargs)


class SkippedRecordsCollator:
    """A collator that reports the records it skips, in whichever worker it runs.

    Samples that are `ALREADY_SEEN` make an empty batch, which the Trainer skips on resume.

    Args:
        collate: makes the batches; only a `VLCollator` tells what it skips.
        note_skipped: called with each skipped record.
    """

    def __init__(self, collate: Callable[..., Any], note_skipped: Callable[[BadRecord], None]) -> None:
        self.collate = collate
        self.note_skipped = note_skipped

    def __call__(self, samples: Sequence[Any]) -> Any:
        """The batch."""
        if samples[0] is ALREADY_SEEN:
            return {}
        return collate_or_carry(self._collated, samples)

    def _collated(self, samples: Sequence[Any]) -> Any:
        if not isinstance(self.collate, VLCollator):
            return self.collate(samples)
        known = len(self.collate.skipped_records)
        batch = self.collate(samples)
        for fault in list(self.collate.skipped_records.values())[known:]:
            self.note_skipped(fault)
        return batch


def _noting(collate: Callable[..., Any], note_skipped: Callable[[BadRecord], None]) -> Callable[..., Any]:
    """`SkippedRecordsCollator` around the Trainer's collator, but inside a `RecordIdCollator`."""
    if isinstance(collate, RecordIdCollator):
        return RecordIdCollator(SkippedRecordsCollator(collate.collate, note_skipped))
    return SkippedRecordsCollator(collate, note_skipped)
