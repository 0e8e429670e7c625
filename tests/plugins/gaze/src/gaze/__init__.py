"""Names for contralign's recipes: a weighting, a contrast, a data set, an evaluation."""
