"""Tiles of a picture of any size, by the released code's rules."""
