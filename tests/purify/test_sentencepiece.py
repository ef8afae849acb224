import io

import pytest

from infoconflict.purify.sentencepiece import pieces
from tests.purify.test_inspection import sentencepiece


def test_worked_example():
    # Field 1, three bytes long: field 1, one byte long, is the word.
    assert pieces(b"\x0a\x03\x0a\x01a" + b"\x0a\x04\x0a\x02\xc3\xa9") == ["a", "\u00e9"]


def test_words_are_in_the_order_of_their_ids():
    words = ["<unk>", "<s>", "\u2581the", "a" * 100]
    assert pieces(sentencepiece(words)) == words


def test_what_the_library_writes():
    library = pytest.importorskip("sentencepiece", reason="transformers' own need, which may be left out")
    out = io.BytesIO()
    texts = iter(["a warm and funny film", "the story is a mess", "the jokes are old"])
    library.SentencePieceTrainer.train(sentence_iterator=texts, model_writer=out, vocab_size=24, minloglevel=2)
    own = library.SentencePieceProcessor(model_proto=out.getvalue())
    assert pieces(out.getvalue()) == [own.id_to_piece(number) for number in range(own.get_piece_size())]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no piece"),
        (b"\x0a\x05ab", "is cut off"),
        (b"\x0a", "is cut off"),
        (b"\x0b", "a field of kind 3"),
        (b"\xff" * 11, "a number without end"),
        (b"\x0a\x00", "piece 0 has 0 words"),
        (b"\x0a\x03\x0a\x01\xff", "utf-8"),
    ],
)
def test_what_is_no_vocabulary(content, says):
    with pytest.raises(ValueError, match=says):
        pieces(content)
