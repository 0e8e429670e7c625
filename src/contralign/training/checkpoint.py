"""Weights from a checkpoint into a model that is already built."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, Trainer


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


class ResumingTrainer(Trainer):
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
