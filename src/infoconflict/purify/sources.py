"""From what a user calls a model to a folder that can be inspected; nothing of it is loaded on the way."""

from pathlib import Path

from infoconflict.errors import UserError
from infoconflict.files import sha256_of_text
from infoconflict.models.changes import ADAPTER, ADAPTER_CONFIG
from infoconflict.models.hub import WANTED
from infoconflict.models.local import first_line
from infoconflict.purify.inspection import copy_of
from infoconflict.purify.options import no_model

# As for every model of the hub: weights in safetensors, config, tokenizer; here adapters, too.
FILES = [*WANTED, ADAPTER, ADAPTER_CONFIG]
DIGITS = 16


def folder_of(place: str, downloads: Path) -> tuple[Path, str]:
    """Return the folder of a model, and what messages call it.

    A model of the hub is downloaded as ordinary files into a folder of its own below ``downloads``, only those that a model
    needs: pickles and code of its repository never arrive here. A broken download goes on where it stopped.

    Raises
    ------
    UserError
        If there is no such directory, or the hub cannot be reached or has no such model.
    """
    if Path(place).is_dir():
        return Path(place), place
    if wrong := no_model(place):
        raise UserError(f"{place}: {wrong}")
    import huggingface_hub

    repo, _, revision = place.partition("@")
    snapshots = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    # Files of two models, or of two revisions of one, in one folder would be taken for a single model.
    folder = downloads / sha256_of_text(f"{repo}@{revision or 'main'}")[:DIGITS]
    try:
        huggingface_hub.snapshot_download(repo, revision=revision or None, allow_patterns=FILES, local_dir=folder)
    # The client raises its own, its HTTP library's and builtin errors for one and the same cause.
    except Exception as error:
        raise UserError(
            f"hub model {place}: cannot be downloaded ({type(error).__name__}: {first_line(error)}), and there is no directory "
            f"of this name; check the name, the network, HF_TOKEN and HF_HUB_OFFLINE, or give the folder of a plain copy; of "
            f"one in the hub's cache, {copy_of(snapshots / 'COMMIT')} makes it"
        ) from error
    return folder, f"hub model {place}"
