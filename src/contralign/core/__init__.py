"""The equations of the paper, one function each, and both passes over a batch.

Needs torch alone; `reference` has it all as slow loops.
"""
