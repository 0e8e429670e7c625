"""How much each label token counts: one rule a file, each a function from what a step measures to weights."""
