"""Models of the Hugging Face hub, through its client and its cache, by repository and revision."""

from pathlib import Path

from infoconflict.errors import UserError
from infoconflict.models.local import INDEX, TOKENIZER_FILES, first_line, take_checkpoint

# The top folder's safetensors, never pickles, code, or the same weights in other formats.
WANTED = ["config.json", "generation_config.json", INDEX, "model.safetensors", "model-*.safetensors", *TOKENIZER_FILES]


def take_hub_model(repo: str, revision: str | None, out_dir: Path) -> str:
    """Put a hub model into an existing directory and return the commit that the revision stands for.

    What the hub's cache holds is not downloaded again, and a broken download goes on where it stopped.

    Raises
    ------
    UserError
        If the hub cannot be reached, lets nobody in, has no such model, or has it only pickled.
    """
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    name = f"hub model {repo} (revision {revision or 'main'})"
    try:
        snapshot = Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=WANTED))
    except GatedRepoError as error:
        raise UserError(f"{name}: needs its licence accepted on the hub; accept it there and set HF_TOKEN") from error
    # The client raises its own, its HTTP library's and builtin errors for one and the same cause.
    except Exception as error:
        raise UserError(
            f"{name}: cannot be downloaded ({type(error).__name__}: {first_line(error)}); check the name, the network "
            f"and HF_HUB_OFFLINE, or download it by hand and use source: local"
        ) from error
    take_checkpoint(snapshot, out_dir, name=name)
    return snapshot.name
