"""The words of a SentencePiece vocabulary, read without its library.

Such a file is one message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding). Its field 1, repeated, is a
piece, whose field 1 is the word; a piece's place is its id.
"""

from collections.abc import Iterator

PIECE = WORD = 1
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


def pieces(content: bytes) -> list[str]:
    """Return the words by id.

    Raises
    ------
    ValueError
        If this is no such message, or holds no piece.
    """
    found: list[str] = []
    for number, value in _fields(content):
        if number == PIECE:
            words = [word for inner, word in _fields(value) if inner == WORD]
            if len(words) != 1:
                raise ValueError(f"piece {len(found)} has {len(words)} words")
            found.append(words[0].decode("utf-8"))
    if not found:
        raise ValueError("it holds no piece")
    return found


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each field of a message; of numbers, none."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
            yield number, b""
            continue
        if kind == _LENGTH:
            size, at = _varint(content, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"a field of kind {kind} at byte {at}")
        if at + size > len(content):
            raise ValueError(f"it is cut off at byte {len(content)}")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number, seven bits in a byte and the lowest first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError(f"it is cut off at byte {at}")
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return value, at
    raise ValueError(f"a number without end at byte {at}")
