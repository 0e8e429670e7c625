"""Turns to tokens and label masks: templates, chat templates, and the expansion of image tokens."""
