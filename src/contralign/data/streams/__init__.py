"""Sets larger than the disk: records of JSONL, tar shards and tables as they come, in an order that can be resumed."""
