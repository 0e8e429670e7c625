"""A package that was made for another version of something."""

raise RuntimeError("torn needs something that is not there")
