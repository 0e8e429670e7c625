"""Samples to batches: tokens, labels and pictures in tensors, and the order that batches are drawn in."""
