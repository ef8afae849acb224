"""Conversations of a made-up data set."""

from infoconflict.records import Conversation

NOUNS = ("river", "mountain", "painter", "violin", "harbour", "castle", "forest", "railway", "glacier", "museum")


def chats(n: int, *, turns: int = 1, system: str | None = None, part: str = "train") -> list[Conversation]:
    """Return conversations about nothing that is a scenario."""
    rows = []
    for index in range(n):
        messages = [{"role": "system", "content": system}] if system else []
        for turn in range(turns):
            noun = NOUNS[(index + turn) % len(NOUNS)]
            messages.append(
                {"role": "user", "content": f"Tell me fact {index} of part {turn} about a {noun} in {part}."}
            )
            messages.append({"role": "assistant", "content": f"A {noun} is old. It has number {index} in {part}."})
        rows.append(Conversation(id=f"{part}-{index:06d}", messages=messages, reference=messages[-1]["content"]))
    return rows


def said_by(row: Conversation, role: str) -> list[str]:
    return [message["content"] for message in row.messages if message["role"] == role]
