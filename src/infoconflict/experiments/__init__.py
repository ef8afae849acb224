"""Measurements beside the grid: the clean-share curve, an external model asked directly, and merges with roles exchanged."""
