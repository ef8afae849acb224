"""From a source of conversations to the train and test conversations of one seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from infoconflict.data.chats import Limits, RawChat, deduplicate_chats, n_words, normal_form, question_key
from infoconflict.data.splits import share_of, wanted, write_both
from infoconflict.errors import UserError
from infoconflict.files import PathLike, sha256_of
from infoconflict.packages import package_named
from infoconflict.records import Conversation

# Below this a split cannot be learnt from or measured on; ours.
LEAST_ROWS = {"train": 4, "test": 1}


def prepare_chats(spec: Mapping[str, Any], *, source_file: PathLike | None, seed: int, out_dir: Path) -> dict[str, Any]:
    """Write ``train.jsonl`` and ``test.jsonl`` of :class:`Conversation` rows and return what the card should say of them.

    A row's id is its split and the number of its row in the source, from 1 (``train-000123``). Rows stand in random order.

    Returns
    -------
    dict
        ``rows``, ``rounds`` and ``words`` (per split, in all), ``duplicates`` (taken out, within and across splits),
        ``changed`` (turns and conversations), ``left_out`` (conversations by reason), ``source``.

    Raises
    ------
    UserError
        If the source is absent, broken or unreachable, a row is no conversation, or too few remain; nothing is written.
    """
    splits, left_out, what, source = _read_source(spec, source_file)
    limits, counts = Limits.from_spec(spec), Counter[str]()
    pools, repeats = {}, {}
    for split, chats in splits.items():
        found = [(chat, normal_form(chat.messages, limits, counts)) for chat in chats]
        normal = [RawChat(number=chat.number, messages=messages) for chat, messages in found if messages is not None]
        pools[split] = deduplicate_chats(normal)
        repeats[split] = len(normal) - len(pools[split])
    across = 0
    if "test" in pools:
        # The test split stays whole: its rows are what numbers are compared on.
        taken = frozenset(question_key(chat.messages) for chat in pools["test"])
        apart = deduplicate_chats(pools["train"], taken=taken)
        across = len(pools["train"]) - len(apart)
        pools["train"] = apart
    drawn = _draw(pools, spec, what, seed)
    rows = {split: [_conversation(chat, split) for chat in chats] for split, chats in drawn.items()}
    write_both(out_dir, rows)
    left_out |= {reason: counts.pop(reason, 0) for reason in ("no_answer", "too_long", "short_answers")}
    left_out["not_drawn"] = sum(map(len, pools.values())) - sum(map(len, drawn.values()))
    return {
        "rows": {split: len(chats) for split, chats in drawn.items()},
        "rounds": {split: sum(_n_rounds(chat) for chat in chats) for split, chats in drawn.items()},
        "words": {split: sum(n_words(chat.messages) for chat in chats) for split, chats in drawn.items()},
        "duplicates": {"within": repeats, "across": across},
        "changed": dict(sorted(counts.items())),
        "left_out": left_out,
        "source": source,
    }


def _read_source(
    spec: Mapping[str, Any], source_file: PathLike | None
) -> tuple[dict[str, list[RawChat]], dict[str, int], str, dict[str, Any]]:
    """Return chats by split, chats left out by reason, a name for messages, and what the card says of the source."""
    from infoconflict.data.chat_sources import read_chitchat, read_hub_chats, read_local_chats

    if spec["source"] == "packaged":
        if source_file is None:
            raise ValueError("a packaged source needs source_file")
        package = package_named(spec["package"])
        chats, left_out = read_chitchat(
            source_file,
            package=spec["package"],
            min_rating=spec.get("min_rating"),
            topic=spec.get("topic", True),
        )
        return {"train": chats}, left_out, package.file, asdict(package)
    if spec["source"] == "hub":
        place = {key: spec.get(key) for key in ("repo", "subset", "revision", "files")}
        return read_hub_chats(spec), {}, f"hub data set {spec['repo']}", place
    if spec["source"] == "local":
        paths = {split: Path(spec[split]) for split in ("train", "test") if spec.get(split) is not None}
        splits = {split: read_local_chats(path, form=spec.get("format", "auto")) for split, path in paths.items()}
        # Names without folders: a card says the same on every machine.
        source = {split: {"file": path.name, "sha256": sha256_of(path)} for split, path in paths.items()}
        return splits, {}, str(paths["train"]), source
    raise ValueError(f"unknown source {spec['source']!r}")


def _draw(
    pools: Mapping[str, list[RawChat]], spec: Mapping[str, Any], what: str, seed: int
) -> dict[str, list[RawChat]]:
    """Draw both splits; where the source has one pool, the test rows are one end of its order and train the other."""
    orders = {split: list(chats) for split, chats in pools.items()}
    for split, order in orders.items():
        Random(f"{split}/{seed}").shuffle(order)
    if "test" in pools:
        for split, chats in pools.items():
            _check_enough(chats, LEAST_ROWS[split], f"{what}, {split} split")
        n_test = wanted(spec.get("test_rows"), len(pools["test"]), "test_rows", what)
        test, rest = orders["test"][:n_test], orders["train"]
    else:
        n_pool = len(pools["train"])
        _check_enough(pools["train"], sum(LEAST_ROWS.values()), what)
        n_default = max(1, share_of(spec["test_share"], n_pool))
        n_test = (
            n_default if spec.get("test_rows") is None else wanted(spec["test_rows"], n_pool - 1, "test_rows", what)
        )
        test, rest = orders["train"][:n_test], orders["train"][n_test:]
    n_train = wanted(spec.get("train_rows"), len(rest), "train_rows", what)
    # From the far end, so that other test_rows do not shift the training rows.
    train = rest[: -n_train - 1 : -1]
    _check_enough(train, LEAST_ROWS["train"], f"{what}, after drawing train_rows and test_rows")
    return {"train": train, "test": test}


def _check_enough(chats: Sequence[RawChat], n_least: int, what: str) -> None:
    if len(chats) < n_least:
        raise UserError(
            f"{what}: {len(chats)} usable conversations are too few; at least {n_least} with an answered question, each "
            f"different, are needed"
        )


def _conversation(chat: RawChat, split: str) -> Conversation:
    return Conversation(id=f"{split}-{chat.number:06d}", messages=chat.messages, reference=chat.messages[-1]["content"])


def _n_rounds(chat: RawChat) -> int:
    return sum(message["role"] == "user" for message in chat.messages)
