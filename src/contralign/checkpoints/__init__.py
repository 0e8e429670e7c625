"""What keeps a run safe: exact resume, whole checkpoints, stop requests, the NaN guard, errors that say what to do.

Knows no CAL.
"""
