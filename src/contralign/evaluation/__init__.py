"""Numbers of a model on held-out samples, one evaluation a file: grounding, answers, retrieval, Δ."""
