"""Forms of a record: LLaVA JSON, chat messages, and the keys that are read of either."""
