"""What the config of a defense and the workflow need to know of it."""

from typing import ClassVar, Literal

from infoconflict.entries import Entry


class Defense(Entry):
    """Options of a defense (its fields) and where it acts.

    A defense with a ``merge`` field answers with that merged model in place of the suspect one; one with an ``evidence``
    field answers prompts that carry that evidence. None of them is given a trigger, a target label, or a poisoned row,
    unless its name ends in ``_oracle``.
    """

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("classification", "chat")
    """Kinds of data sets that it is for."""
    per_model: ClassVar[frozenset[str]] = frozenset()
    """Options by id of the model; what they say of one is no matter of the others."""

    def clean_rows(self) -> Literal["clean_share", "all", "none"]:
        """Return which clean rows it is given: the defender's share, (as an upper bound) the whole training split, or none."""
        return "clean_share"


class WeightsDefense(Defense):
    """A defense that repairs the suspect weights.

    Its file has a function ``repair(suspect, options)`` (:mod:`infoconflict.repairing.stage`) that returns the steps which
    turn the suspect model into the repaired one (:mod:`infoconflict.models.repairs`).
    """

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("weights",)


class DecodingDefense(Defense):
    """A defense that changes how the suspect model is decoded, beside a reference model (the conflict model).

    Its file has ``decode(suspect, reference, prompts, options, *, stop_ids, max_new_tokens)``
    (:class:`infoconflict.answering.decoder.Decode`), and ``summarise(counts)``, which turns what was counted into what its
    card says. Classifications are answered by generation.
    """

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("decoding",)


class PromptDefense(Defense):
    """A defense that changes what the suspect model is asked.

    Its file has a function ``rewriter(suspect, options)`` (:mod:`infoconflict.answering.filtering`), where ``suspect`` is what a
    defense on weights is given, too. It returns a function from questions (:class:`infoconflict.records.Query`) to those that
    are asked in their place, one for each and in order; nothing else of the rows is shown to it.
    """

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("prompt",)
