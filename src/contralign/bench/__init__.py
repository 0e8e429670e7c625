"""Time and memory of a training step, measured here; `plan` and `forecast` predict other models and machines."""
