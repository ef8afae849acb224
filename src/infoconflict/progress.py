"""Lines on standard error, which a workflow job keeps as its log."""

import sys


def say(line: str) -> None:
    """Write one line at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
