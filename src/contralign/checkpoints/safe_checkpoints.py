"""Checkpoints of any Trainer that are complete or absent, and a run that resumes from the last complete one.

transformers writes into checkpoint-N itself: a run killed meanwhile leaves half a checkpoint, which is loaded next.
Here all ranks write into _writing/checkpoint-N. Once all have and the files are on the disk, a manifest is written and
the folder renamed; only then are older checkpoints removed.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput, sort_checkpoints

from contralign.atomic_write import remove, size_of, sync, sync_folder
from contralign.checkpoints.loader_errors import end_workers, killed_workers
from contralign.checkpoints.manifest import (
    STAGING,
    checkpoint_steps,
    last_whole_checkpoint,
    put_damaged_aside,
    read_manifest,
    resume_obstacle,
    write_manifest,
)
from contralign.checkpoints.run_errors import HOW_TO_RESUME, CannotWrite, DamagedCheckpoint, NotFinite, as_run_error
from contralign.checkpoints.saving import is_write_failure, write_failure_message
from contralign.core.sharding import any_rank

logger = logging.getLogger(__name__)


class SafeCheckpoints(Trainer):
    """Overrides of a Trainer that write complete checkpoints, find them, and survive a disk that refuses one.

    Attributes:
        failed_checkpoints: number of checkpoints of this run that could not be written.
    """

    failed_checkpoints = 0
    _staging = False
    _to_push: str | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """The usual training; `resume_from_checkpoint=True` takes the last whole checkpoint.

        Raises:
            DamagedCheckpoint: the checkpoint that was named is damaged.
            WorkerDied, RankDied: another process of the training died.
            NotFinite, CannotWrite: see `contralign.checkpoints.run_errors`.
        """
        folder = Path(str(self.args.output_dir))
        if resume_from_checkpoint is True:
            found = last_whole_checkpoint(folder)
            resume_from_checkpoint = True if found is None else str(found)
        if isinstance(resume_from_checkpoint, str):
            self._check_named(Path(resume_from_checkpoint))
        if self.args.local_process_index == 0:
            remove(folder / STAGING)
            if resume_from_checkpoint:
                put_damaged_aside(folder, after=_step_of(str(resume_from_checkpoint)))
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        except Exception as error:
            run_error = as_run_error(
                error,
                self.args.world_size,
                self.state.global_step + 1,
                self.last_checkpoint_words(),
                killed_workers() if self.args.dataloader_num_workers else (),
            )
            if run_error is None:
                raise
            raise run_error from error
        finally:
            if self.args.dataloader_num_workers:
                end_workers()

    def last_checkpoint_words(self) -> str:
        """A sentence that says which checkpoint this run can resume from."""
        folder = Path(str(self.args.output_dir))
        steps = [step for step in checkpoint_steps(folder) if step <= self.state.global_step]
        if not steps:
            return "No checkpoint has been written in this stage (trainer.save_steps=N writes one every N steps)"
        return f"The last checkpoint is of step {steps[0]}, in {folder / f'checkpoint-{steps[0]}'}: {HOW_TO_RESUME}"

    def _check_named(self, checkpoint: Path) -> None:
        found = resume_obstacle(checkpoint) if checkpoint.is_dir() else None
        if found is not None:
            raise DamagedCheckpoint(
                f"{checkpoint} is no checkpoint to go on with: {found}. Name another, or "
                "resume_from_checkpoint=True to take the last whole one"
            )
        manifest = read_manifest(checkpoint) if checkpoint.is_dir() else None
        if manifest is not None and manifest["processes"] != self.args.world_size:
            logger.warning(
                "%s was written by %d processes and is read by %d: the order of the records and what is drawn at "
                "random will not be what they would have been",
                checkpoint,
                manifest["processes"],
                self.args.world_size,
            )

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        """The usual state, with logging, evaluation and save steps as the arguments are now, not as they were saved."""
        found = super()._init_training_state(max_steps, *args, **kwargs)
        self.state.compute_steps(self.args, max_steps)
        return found

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The usual epoch; resumed from the last step, the base class would take one more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        place = super()._get_output_dir(trial)
        return os.path.join(place, STAGING) if self._staging else place

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload only after the rename: the upload reads the folder in the background."""
        if self._staging:
            self._to_push = checkpoint_folder
        else:
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a complete checkpoint; if the disk refuses, warn and train on without it.

        Raises:
            NotFinite: a weight is NaN or infinite.
            CannotWrite: the disk refuses while ranks write together (FSDP, DeepSpeed), so that none can go on alone.
        """
        self.refuse_broken_weights()
        place = Path(self._get_output_dir(trial))
        staged, best = place / STAGING / f"checkpoint-{self.state.global_step}", self.state.best_model_checkpoint
        for work in (lambda: self._write(model, trial, place, staged), lambda: self._finish(staged)):
            error = _write_failure_of(work)
            refused = error is not None
            if self._ranks_write_independently():
                refused = any_rank(refused, self.args.device)
            if refused:
                self.state.best_model_checkpoint = best
                self._skip_checkpoint(place, staged, error)
                return
            self.accelerator.wait_for_everyone()
        self._publish(place, staged)
        self._rotate(place)
        if self._to_push is not None:
            self._to_push = None
            super()._push_from_checkpoint(str(place / staged.name))

    def _write(self, model: nn.Module, trial: Any, place: Path, staged: Path) -> None:
        """Write what the base class writes; every rank writes its part."""
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = False
        self._name_best(place, staged)
        if self.args.should_save:
            self.state.save_to_json(str(staged / TRAINER_STATE_NAME))

    def _finish(self, staged: Path) -> None:
        """Once all parts are there: fsync them and write the manifest."""
        if self.args.process_index == 0:
            write_manifest(staged, self.args.world_size, self.args.save_only_model)
        elif self.args.local_process_index == 0:
            sync(staged)

    def _name_best(self, place: Path, staged: Path) -> None:
        """Name the best checkpoint by its final folder; the base class looks for it in the staging folder."""
        if not self.state.best_global_step:
            return
        best = place / f"checkpoint-{self.state.best_global_step}"
        if best.name == staged.name or best.is_dir():
            self.state.best_model_checkpoint = str(best)

    def _publish(self, place: Path, staged: Path) -> None:
        """Rename the folder: on the main process first, then on machines that do not share its disk."""
        if self.args.process_index == 0:
            _rename(staged, place)
        self.accelerator.wait_for_everyone()
        if self.args.process_index != 0 and self.args.local_process_index == 0 and staged.is_dir():
            with contextlib.suppress(FileNotFoundError):
                write_manifest(staged, self.args.world_size, self.args.save_only_model)
                _rename(staged, place)
        self.accelerator.wait_for_everyone()

    def _rotate(self, place: Path) -> None:
        """Remove what `save_total_limit` does not keep; a folder is renamed before its files are removed."""
        limit = self.args.save_total_limit
        if self.args.local_process_index != 0:
            return
        if limit is not None and limit > 0:
            best = self.state.best_model_checkpoint
            newest_first = list(reversed(sort_checkpoints(str(place), use_mtime=True)))
            kept = {newest_first[0], *({str(Path(best))} if best else ())} if newest_first else set()
            for old in newest_first:
                if len(kept) < limit:
                    kept.add(old)
                elif old not in kept:
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(old, place / STAGING / f"old-{Path(old).name}")
        remove(place / STAGING)

    def _skip_checkpoint(self, place: Path, staged: Path, error: Exception | None) -> None:
        """Train on without the checkpoint that could not be written; a later one may find room."""
        self.failed_checkpoints += 1
        steps = checkpoint_steps(place)
        needed = size_of(place / f"checkpoint-{steps[0]}") if steps else size_of(staged)
        said = f"{staged.name}: another process could not write"
        if error is not None:
            said = write_failure_message(place / staged.name, error, needed)
        if self.args.local_process_index == 0:
            remove(place / STAGING)
        words = f"{said}. {self.last_checkpoint_words()}"
        if not self._ranks_write_independently():
            raise CannotWrite(words) from error
        logger.warning("%s. Training goes on without it (%d of this run so far)", words, self.failed_checkpoints)

    def _ranks_write_independently(self) -> bool:
        """True if no rank waits for another while it writes, so that all can train on without a checkpoint."""
        alone = self.args.world_size == 1
        return alone or not (self.is_fsdp_enabled or self.is_deepspeed_enabled or self.state.best_global_step)

    def refuse_broken_weights(self) -> None:
        """Check the trainable weights of every rank, or its shards of them.

        Raises:
            NotFinite: some are NaN or infinite.
        """
        broken = [name for name, weight in self._learnt() if not bool(torch.isfinite(weight.detach()).all())]
        if any_rank(bool(broken), self.args.device):
            named = f"{broken[0]} and {len(broken) - 1} more" if broken else "weights of another process"
            raise NotFinite(
                f"step {self.state.global_step}: the weights are no longer finite ({named}), so they are not saved. "
                f"The step before was too large: lower the learning rate. {self.last_checkpoint_words()}"
            )

    def _learnt(self) -> Iterator[tuple[str, Tensor]]:
        """Trainable weights of this rank, or its shards of them."""
        assert isinstance(self.model, nn.Module)
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                held: Any = getattr(parameter, "ds_tensor", parameter)
                yield name, held.to_local() if hasattr(held, "to_local") else held


def _write_failure_of(work: Callable[[], None]) -> Exception | None:
    """Do the work; return the error if the disk refuses, raise any other."""
    try:
        work()
    except Exception as error:
        if isinstance(error, CannotWrite) or is_write_failure(error):
            return error
        raise
    return None


def _step_of(checkpoint: str) -> int:
    """Step of a checkpoint by its name; 0 for another name."""
    number = Path(checkpoint).name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _rename(staged: Path, place: Path) -> None:
    """Rename _writing/checkpoint-N to checkpoint-N; one that is there, of the same step, is moved out of the way."""
    final = place / staged.name
    if final.exists():
        os.replace(final, staged.with_name(f"before-{staged.name}"))
    os.replace(staged, final)
    sync_folder(place)
