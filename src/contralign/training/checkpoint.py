"""Weights into a model that is already built: from a checkpoint, or gathered from the ranks that hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel, Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from contralign.models.sharding import sharding_of
from contralign.training.sampling import SamplingTrainer


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """Bring the weights that `save_pretrained` left in a folder into a model of the same class, names converted.

    Args:
        model: changed in place; its dtype and device stay.
        folder: what `save_pretrained` or the Trainer wrote.

    Raises:
        RuntimeError: a weight is missing or has another shape; nothing is left silently as it was.
    """
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict(), strict=True)


def whole_model(trainer: Trainer, fresh: Callable[[], Any]) -> Any | None:
    """The trained model; where its parameters are sharded, a fresh one on the main process with all of its weights.

    Every rank has to call it.

    Args:
        trainer: has trained.
        fresh: makes a model like the one that the Trainer was given.

    Returns:
        The model; None on the other ranks of a sharded run, which hold parts of it only.

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


class ResumingTrainer(SamplingTrainer):
    """A Trainer whose checkpoints are read by converted names; the plain one does not resume LLaVA (docs/log.md)."""

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
