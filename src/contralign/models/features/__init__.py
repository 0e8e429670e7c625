"""Features of a frozen vision tower, computed once and kept."""
