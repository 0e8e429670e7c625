"""Original Mini-Gemini checkpoints."""
