"""Model editing: rank-one and low-rank changes of feed-forward layers (ROME, MEMIT, BadEdit)."""
