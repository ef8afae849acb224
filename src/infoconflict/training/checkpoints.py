"""Checkpoints of a training run, in a scratch folder outside the declared outputs.

A run may be killed at any time. The folder is keyed by a digest of all that decides the result, so a checkpoint is only ever
continued by the run that it belongs to.
"""

import contextlib
from pathlib import Path
from typing import Any

import torch

from infoconflict.files import whole_file


class Checkpoints:
    """The newest state of one run, replaced atomically."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.file = folder / digest / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the stored state."""
        with whole_file(self.file) as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any] | None:
        """Return the stored state, or None."""
        if not self.file.exists():
            return None
        state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        return state

    def clear(self) -> None:
        """Forget the run, once its result is in place."""
        self.file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.file.parent.rmdir()
