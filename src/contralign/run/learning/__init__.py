"""What of a model learns: its parts, adapters on them, and the precision of their weights."""
