"""How a suspect's tokenizer differs from its base's, by its parts as files state them.

A suspect's tokenizer is left behind. What it did to texts is part of the model as it came, all the same: one that writes a word
as other tokens, or replaces it, can carry a trigger.
"""

import json
from collections.abc import Mapping
from typing import Any

from infoconflict.models.wanted_code import shortened

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")
MOST_TOLD = 5


def parts_apart(own: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return what differs in two ``tokenizer.json``, a phrase for each part; truncation and padding are not compared."""
    found = [
        f"{part} ({shortened(own.get(part))}, the base's {shortened(base.get(part))})"
        for part in PARTS
        if own.get(part) != base.get(part)
    ]
    models = [content["model"] if isinstance(content.get("model"), dict) else {} for content in (own, base)]
    keys = sorted({*models[0], *models[1]} - {"vocab", "merges"})
    found += [
        f"model.{shortened(key)[1:-1]} ({shortened(models[0].get(key))}, the base's {shortened(models[1].get(key))})"
        for key in keys
        # A release that does not know an option leaves it out; it is off then.
        if (models[0].get(key) or None) != (models[1].get(key) or None)
    ]
    for key, entries in (("vocab", _words), ("merges", _merges)):
        lists = [entries(model.get(key)) for model in models]
        if lists[0] != lists[1]:
            found.append(f"model.{key} ({len(lists[0])} entries, the base's {len(lists[1])})")
    return found


def _words(vocab: Any) -> list[str]:
    """Return tokens with their ids, or with their scores in order, as comparable texts."""
    pairs: Any = sorted(vocab.items()) if isinstance(vocab, dict) else vocab
    return [json.dumps(pair) for pair in pairs] if isinstance(pairs, list) else []


def _merges(merges: Any) -> list[str]:
    """Return merges as texts; releases write them as texts or as pairs."""
    raw = merges if isinstance(merges, list) else []
    return [" ".join(map(str, pair)) if isinstance(pair, list) else str(pair) for pair in raw]


def added_tokens_apart(own: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return the tokens, by their texts, that one of two tokenizers adds and the other does not, or treats otherwise.

    Parameters
    ----------
    own, base : mapping
        Entries of added tokens by their texts (:func:`added_tokens`).
    """
    names = sorted(name for name in {*own, *base} if own.get(name) != base.get(name))
    told = [shortened(name) for name in names[:MOST_TOLD]]
    if len(names) > MOST_TOLD:
        told.append(f"{len(names) - MOST_TOLD} more")
    return [f"added tokens ({', '.join(told)})"] if names else []


def added_tokens(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, list[bool]]:
    """Return the tokens that ``tokenizer.json`` and ``tokenizer_config.json`` add, with how each is looked for in a text."""
    listed, by_id = tokenizer.get("added_tokens"), settings.get("added_tokens_decoder")
    entries = [*(listed if isinstance(listed, list) else []), *(by_id.values() if isinstance(by_id, dict) else [])]
    return {
        str(entry.get("content")): [bool(entry.get(flag)) for flag in FLAGS]
        for entry in entries
        if isinstance(entry, dict)
    }
