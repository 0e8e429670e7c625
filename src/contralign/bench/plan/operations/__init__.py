"""Counted operations and bytes of a step: decoder, vision tower, head."""
