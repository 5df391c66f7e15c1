"""Scores of a model on a split: how they are computed, what is asked of each system, the files of a result."""
