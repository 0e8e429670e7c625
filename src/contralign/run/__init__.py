"""What a recipe does: model and data are built, arms trained, and everything written to the run directory."""
