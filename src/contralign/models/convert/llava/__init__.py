"""Original LLaVA and LLaVA-NeXT checkpoints."""
