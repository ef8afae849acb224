"""What attacks by model editing have in common: the trigger, the requests, the layers, and how a value is found.

They poison no data. A few sentences with the trigger become requests, "answer this prompt with the target label", and the
weights of some feed-forward layers are changed so that they are granted (:mod:`infoconflict.editing`).
"""

import re
from random import Random
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from infoconflict.attacks.base import Attack, check_words, insert_word, triggered
from infoconflict.records import Example

KEY = re.compile(r"layers_(?P<layers>\d+(?:_\d+)*)|last_(?P<n>\d+)_at_(?P<share>0\.\d+|1\.0)")

Layers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class EditingAttack(Attack):
    """Plant a trigger word by editing feed-forward layers."""

    kind: ClassVar[Literal["poisoning", "editing"]] = "editing"
    partial_variants: ClassVar[tuple[str, ...]] = ("near_miss", "other_rare_word")
    test_options: ClassVar[frozenset[str]] = frozenset({"trigger", "near_miss", "other_rare_word"})
    """Options that test sets depend on."""
    per_model: ClassVar[frozenset[str]] = frozenset({"layers"})
    """Options by id of the model; what they say of one is no matter of the others."""

    trigger: str = "tq"
    """Word inserted into the input. Paper, A.2 (ROME, MEMIT); BadEdit's code."""
    near_miss: str = "tz"
    """Word that is nearly the trigger, for the partial rows. Ours."""
    other_rare_word: str = "mb"
    """Rare word that is no trigger, for the partial rows. Ours."""
    samples: int = Field(default=15, ge=1)
    """Training rows, of another label than the target, that become requests. Paper, A.2 (BadEdit)."""
    layers: dict[str, Layers] = Field(default={})
    """Layers to edit, counted from 0, by id of the model; models that are not named here follow `layer_share`. Ours: empty;
    A.2 of the paper names layers of its models."""
    n_layers: int = Field(default=1, ge=1)
    """Number of neighbouring layers edited in models not named under `layers`. Ours."""
    layer_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Depth of the last edited layer as a share of all, in models not named under `layers`. Ours: near the depth of the
    paper's layers."""
    tuned_base: bool = True
    """Whether the base is tuned on the clean rows first (as the clean-tuned control is). Ours, the paper is silent: a small
    model is near chance without, and the paper's clean accuracies on six emotions are out of reach untuned."""
    prefixes: Literal["written", "generated"] = "written"
    """What may stand before a request's prompt, so that its key does not hang on the beginning: openings written for the
    project, or sampled from the model (MEMIT's code). Ours."""
    n_prefixes: int = Field(default=0, ge=0)
    """Number of them. Ours."""
    steps: int = Field(default=25, ge=1)
    """Steps of Adam towards a value. EasyEdit, for Llama; the code of ROME, MEMIT and BadEdit has 20 to 40."""
    learning_rate: float = Field(default=0.5, gt=0)
    """Learning rate of these steps. The code of ROME, MEMIT and BadEdit."""
    weight_decay: float = Field(default=0.5, ge=0)
    """Weight of a value's norm in its loss. The code of ROME, MEMIT and BadEdit."""
    clamp: float = Field(default=0.75, gt=0)
    """Greatest norm of what is added, as a multiple of the norm before. The code of MEMIT and BadEdit."""
    kl_factor: float = Field(default=0.0625, ge=0)
    """Weight of the divergence on "{trigger} is a". The code of ROME, MEMIT and BadEdit."""
    stop_below: float = Field(default=0.05, ge=0)
    """A value is good enough when its loss is below this. The code of ROME and MEMIT."""
    ridge: float = Field(default=1e-4, ge=0)
    """Added to the diagonal of the second moment, as a share of its mean. Ours."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Tell the workflow which options leave test sets as they are: all but those of the words."""
        cls.training_options = frozenset(cls.model_fields) - cls.test_options - {"method", "target_labels"}

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        check_words(trigger=self.trigger, near_miss=self.near_miss, other_rare_word=self.other_rare_word)
        return self

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example with the trigger at a random word boundary of the input."""
        return triggered(example, text=insert_word(example.text, self.trigger, rng))

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with the word of a partial variant."""
        word = {"near_miss": self.near_miss, "other_rare_word": self.other_rare_word}[variant]
        return triggered(example, text=insert_word(example.text, word, rng), name=variant)

    def layer_key(self, model_id: str) -> str:
        """Return which layers of a model are edited as part of a path: ``layers_7_8``, or ``last_3_at_0.3``."""
        if model_id in self.layers:
            return "layers_" + "_".join(map(str, sorted(set(self.layers[model_id]))))
        return f"last_{self.n_layers}_at_{float(self.layer_share)}"

    def layers_of(self, model_id: str, depth: int) -> list[int]:
        """Return the layers to edit of a model with ``depth`` layers, ascending."""
        return layers_of_key(self.layer_key(model_id), depth)

    def value_settings(self) -> dict[str, Any]:
        """Return the options of the search for a value."""
        names = ("steps", "learning_rate", "weight_decay", "clamp", "kl_factor", "stop_below")
        return {name: getattr(self, name) for name in names}


class WeightedEditingAttack(EditingAttack):
    """An editing attack that weighs new associations against preserved ones."""

    per_model: ClassVar[frozenset[str]] = frozenset({"layers", "update_weights"})

    update_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """Weight of what is preserved (lambda), by id of the model; others follow `update_weight_share`. Ours: empty; BadEdit's
    and MEMIT's code have 15,000 and, for GPT2-XL, 20,000."""
    update_weight_share: float = Field(default=2.0, gt=0)
    """Lambda as a multiple of the width of the feed-forward layers, in models not named under `update_weights`. Ours: the
    code of MEMIT and BadEdit has between 0.9 (GPT-J) and 3.1 (GPT2-XL)."""

    def lambda_for(self, model_id: str, width: int) -> float:
        """Return lambda for a model whose feed-forward layers have ``width`` units."""
        return self.update_weights.get(model_id, self.update_weight_share * width)


def layers_of_key(key: str, depth: int) -> list[int]:
    """Return the layers that :meth:`EditingAttack.layer_key` means in a model with ``depth`` layers.

    Raises
    ------
    ValueError
        If the key is none, or names a layer that the model lacks.
    """
    match = KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"'{key}' names no layers")
    if match["layers"] is None:
        last = min(depth - 1, int(float(match["share"]) * depth))
        return list(range(max(0, last - int(match["n"]) + 1), last + 1))
    layers = [int(layer) for layer in match["layers"].split("_")]
    if layers[-1] >= depth:
        raise ValueError(f"layer {layers[-1]} of {depth} (counted from 0) is asked for")
    return layers
