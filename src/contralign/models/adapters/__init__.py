"""What both passes ask of a model (`adapter.Adapter`), a file a family, and the one that serves any other."""
