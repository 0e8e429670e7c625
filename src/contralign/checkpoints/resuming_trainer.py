"""A Trainer that resumes exactly after a kill, and weights loaded into, or gathered from, its model."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from contralign.checkpoints.nan_guard import NanGuard
from contralign.checkpoints.resumable_sampler import SamplingTrainer
from contralign.checkpoints.safe_checkpoints import SafeCheckpoints
from contralign.core.sharding import sharding_of
from contralign.core.zero_loss import keep_loss_connected
from contralign.models.pretrained import load_whole_model

logger = logging.getLogger(__name__)


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """Load what `save_pretrained` or the Trainer wrote into a model of the same class, whose dtype and device stay.

    Names of weights are converted as `from_pretrained` does.

    Raises:
        UnusableModel: a weight is missing, or the folder cannot be read.
        RuntimeError: a weight has another shape.
    """
    # Read as wide as the widest parameter, so that none passes through a narrower one on its way.
    floating = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    widest = max(floating, key=lambda dtype: torch.finfo(dtype).bits)
    saved = load_whole_model(folder, type(model), dtype=widest)
    model.load_state_dict(saved.state_dict(), strict=True)


def gather_model(trainer: Trainer, fresh: Callable[[], Any]) -> Any | None:
    """The trained model; of sharded parameters, a new unsharded one on the main process. Every rank must call this.

    Args:
        trainer: after training.
        fresh: makes a model like the one that the Trainer was given.

    Returns:
        The model; None on the other ranks of a sharded run.

    Raises:
        ValueError: DeepSpeed ZeRO-3 without `stage3_gather_16bit_weights_on_model_save`.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if sharding_of(model) == "none":
        return model
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    unset_hf_deepspeed_config()  # while it is set, every model that is loaded is sharded
    if not trainer.is_world_process_zero():
        return None
    whole = fresh()
    whole.load_state_dict(weights)
    return whole


class ResumingTrainer(NanGuard, SafeCheckpoints, SamplingTrainer):
    """A Trainer that can be killed at any moment and resumed, on one process of one machine bit for bit.

    Checkpoints are complete or absent (`SafeCheckpoints`), no step with a NaN is taken (`NanGuard`), weights are loaded
    by their converted names, and whatever else a step or a log depends on is saved too (`exact_state`). A micro-batch
    whose loss reaches no trainable parameter has a gradient of 0 (`keep_loss_connected`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.model, nn.Module):
            keep_loss_connected(self.model)

    def exact_state(self) -> dict[str, Tensor]:
        """State of this process beside weights, optimizer and random states, by name; subclasses add their own."""
        return {
            "loss_since_log": self._tr_loss.detach().cpu().reshape(1),
            "last_logged": torch.tensor([self._globalstep_last_logged]),
            "skipped_steps": torch.tensor([self.skipped_steps, self._skipped_in_a_row]),
            "failed_checkpoints": torch.tensor([self.failed_checkpoints]),
            "loader_workers": torch.tensor([self.args.dataloader_num_workers]),
        }

    def load_exact_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `exact_state` returned."""
        self._tr_loss = state["loss_since_log"].reshape(()).to(self.args.device)
        # The summary at the end is about the steps of this call: what was lost before it is taken off again.
        self._total_loss_scalar = -float(self._tr_loss)
        self._globalstep_last_logged = int(state["last_logged"])
        self.skipped_steps, self._skipped_in_a_row = state["skipped_steps"].tolist()
        self.failed_checkpoints = int(state["failed_checkpoints"])
        before, now = int(state["loader_workers"]), self.args.dataloader_num_workers
        if self._stream is not None and before != now:
            logger.warning(
                "this stream was read by %d loader processes before and is read by %d now: other records than those "
                "trained on are skipped. To go on exactly, set dataloader_num_workers=%d again",
                before,
                now,
                before,
            )

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_file(self.exact_state(), Path(output_dir, self._state_file()))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called once, right before the first step of a resumed run."""
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and Path(checkpoint, self._state_file()).is_file():
            self.load_exact_state(load_file(Path(checkpoint, self._state_file())))

    def _state_file(self) -> str:
        return f"exact_state_{self.args.process_index}.safetensors"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights of a checkpoint, whatever names they were saved under.

        `save_pretrained` writes LLaVA's weights under the names of older versions, and the base class, which reads the
        file name by name, would find none of them, warn, and go on from the weights in memory.
        """
        if model is None and isinstance(self.model, PreTrainedModel) and not self.is_fsdp_enabled:
            load_weights(self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        """See `_load_from_checkpoint`."""
        engine = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if isinstance(self.model, PreTrainedModel) and not engine and self.state.best_model_checkpoint:
            load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()
