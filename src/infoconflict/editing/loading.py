"""A base, tuned or not, as a model to edit."""

from infoconflict.attacks.editing import layers_of_key
from infoconflict.editing.modules import EditableModel
from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.loading import apply_tensors, default_device, load_base


def load_editable(
    base_dir: PathLike, change_dir: PathLike | None, *, precision: str, layer_key: str
) -> tuple[EditableModel, list[int]]:
    """Load a base and what it was tuned to, and return it with the layers of a key.

    Where the model computes in half precision, the weights of these layers are nevertheless known in full.
    """
    model = load_base(base_dir, device=default_device(), precision=precision)
    tuned = changed_tensors(base_dir, change_dir) if change_dir else {}
    apply_tensors(model, tuned)
    editable = EditableModel(model)
    layers = layers_from(layer_key, editable.depth)
    names = [editable.weight_name(layer) for layer in layers]
    exact = read_tensors(base_dir, names) | tuned
    editable.exact = {name: exact[name] for name in names}
    return editable, layers


def layers_from(key: str, depth: int) -> list[int]:
    """Return the layers of a key; one that a model lacks is the user's mistake."""
    try:
        return layers_of_key(key, depth)
    except ValueError as error:
        raise UserError(f"the model has {depth} layers: {error}; correct layers of the attack") from error
