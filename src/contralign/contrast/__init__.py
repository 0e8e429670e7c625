"""The second look: one condition a file, each a function from batch to batch."""

from typing import Literal

ContrastName = Literal["drop", "mask", "patches", "blur", "shuffle", "mean", "none"]
