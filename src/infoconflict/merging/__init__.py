"""Merging the backdoored model with the conflict model: the paper's internal conflict.

Chen et al., arXiv:2411.18280, section 3.3.

One file per method holds its equation on tensors and its mergekit configuration; none of them imports torch, so a
workflow can read them while it parses. ``changes`` makes a base plus a change dense, ``mergekit_runner`` writes
merged checkpoints, ``in_memory`` gives the same weights without files, and ``choose_t`` picks the weight from clean
rows alone.

In all methods t is the weight of the conflict model: 0 is the backdoored model, 1 the conflict model.
"""

METHODS = ("linear", "slerp", "ties", "passthrough")
