"""CAL in a training loop, for library users: settings, the loss of a batch, and the Trainer. Knows no recipe."""
