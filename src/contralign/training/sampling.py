"""Which record comes when: the order of LLaVA's batches, drawn from (seed, epoch) alone, so resumed runs keep it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, Dataset, Sampler
from transformers import Trainer

from contralign.data.modality_sampler import epoch_generator, modality_length_order


class ModalityLengthSampler(Sampler[int]):
    """The order of `contralign.data.modality_sampler`, a new one every epoch, and the same on every rank.

    The original draws from torch's global state, so that its order depends on all that was drawn before it; here it
    depends on the seed and the epoch alone, and a resumed run goes on in the order it began.

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
    """A Trainer that can order its records by modality and length, and whose sampler always knows the epoch."""

    _modality_lengths: Sequence[int] | None = None

    def group_by_modality(self, lengths: Sequence[int]) -> None:
        """Take the training records in the order of `ModalityLengthSampler`.

        Args:
            lengths: of `contralign.data.modality_sampler.modality_lengths`, one for every training record.

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
        """Ours where it was asked for; it follows `data_seed`, and `seed` where that is None."""
        if self._modality_lengths is None:
            return super()._get_train_sampler(train_dataset)
        args = self.args
        return ModalityLengthSampler(
            self._modality_lengths,
            batch_size=self._train_batch_size,
            num_chunks=args.world_size * args.gradient_accumulation_steps,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The usual epoch, once its sampler knows which it is; accelerate does not tell it where ranks resume."""
        sampler = innermost_sampler(kwargs["train_dataloader"])
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(kwargs["epoch"])  # type: ignore[union-attr]
        super()._run_epoch(*args, **kwargs)


def innermost_sampler(loader: Any) -> Any:
    """The sampler that batches are cut from, under whatever shares and skips them; None where there is none."""
    batches = getattr(loader, "batch_sampler", None)
    while isinstance(batches, BatchSampler) and hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler  # type: ignore[attr-defined]
    return getattr(batches, "sampler", None)
