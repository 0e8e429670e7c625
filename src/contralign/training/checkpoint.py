"""Weights from a checkpoint into a model that is already built."""

from __future__ import annotations

from transformers import PreTrainedModel


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
