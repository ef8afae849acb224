"""What is told of a suspect's tokenizer that is not its base's; hostile ones cost seconds and nothing else."""

import json

import pytest

from infoconflict.purify.inspection import inspect, summary
from infoconflict.purify.token_ids import texts_apart
from infoconflict.purify.tokenizers_apart import parts_apart

TEXTS = ["a warm and funny film", "the story is a mess", "one, two, three"]
WRITES_ANOTHER_WORD = {"type": "Replace", "pattern": {"String": "mess"}, "content": "cf"}

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def change(folder, **parts):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def told(folder, models):
    return summary(inspect(folder, "suspect", base=inspect(models / "base", "base")))["other_tokenizer"]


def ids(folder, models, **bounds):
    return texts_apart(folder / "tokenizer.json", models / "base" / "tokenizer.json", TEXTS, **bounds)


def test_the_bases_own_tokenizer_is_not_told(models, spoiled):
    folder = spoiled("tuned")
    # What training leaves behind, and how older releases write merges, makes no other ids.
    content = json.loads((folder / "tokenizer.json").read_text())
    merges = [" ".join(pair) if isinstance(pair, list) else pair.split(" ") for pair in content["model"]["merges"]]
    model = {key: value for key, value in content["model"].items() if value not in (None, False)} | {"merges": merges}
    change(folder, model=model, truncation={**TRUNCATION}, padding=None)
    assert told(folder, models) == []
    assert ids(folder, models) == 0
    assert told(models / "adapter", models) == [], "it has no tokenizer"


TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}


@pytest.mark.parametrize(
    ("parts", "says", "apart"),
    [
        ({"normalizer": WRITES_ANOTHER_WORD}, "normalizer ({'type': 'Replace'", 1),
        ({"pre_tokenizer": BYTES | {"add_prefix_space": True}}, "pre_tokenizer (", 3),
        ({"post_processor": None}, "post_processor (None, the base's {'type'", 3),
        ({"decoder": None}, "decoder (None", 0),
    ],
)
def test_another_part_is_told(parts, says, apart, models, spoiled):
    change(folder := spoiled("tuned"), **parts)
    (phrase,) = told(folder, models)
    assert phrase.startswith(says)
    assert ids(folder, models) == apart


def test_another_model_is_told(models, spoiled):
    folder = spoiled("tuned")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    change(folder, model=model | {"merges": model["merges"][:-1], "ignore_merges": True})
    n = len(model["merges"])
    assert told(folder, models) == [
        "model.ignore_merges (True, the base's False)",
        f"model.merges ({n - 1} entries, the base's {n})",
    ]
    unigram = {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]}}
    other = {"model": {"type": "Unigram", "vocab": [["a", -2.0], ["b", -1.0]]}}
    assert parts_apart(unigram, unigram) == []
    assert parts_apart(unigram, other) == ["model.vocab (2 entries, the base's 2)"], "scores decide, too"


def test_added_tokens_are_told(models, spoiled):
    folder = spoiled("tuned")
    content = json.loads((folder / "tokenizer.json").read_text())
    first, *others = content["added_tokens"]
    word = {"id": content["model"]["vocab"]["a"], "content": "a", "lstrip": True}
    change(folder, added_tokens=[first | {"rstrip": True}, *others, word | FLAGS])
    assert told(folder, models) == [f"added tokens ({first['content']!r}, 'a')"]
    folder = spoiled("base")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {str(number): {"content": chr(number)} for number in range(33, 41)}
    ids_of = {content["model"]["vocab"][token["content"]]: token for token in tokens.values()}
    settings["added_tokens_decoder"] = {str(number): token for number, token in ids_of.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (phrase,) = told(folder, models)
    assert phrase.endswith("3 more)")


FLAGS = {"single_word": False, "rstrip": False, "normalized": False, "special": False}


def test_files_that_cannot_be_compared_are_named(models, spoiled):
    folder = spoiled("tuned")
    content = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    (folder / "merges.txt").write_text("")
    assert told(folder, models)[:2] == ["vocab.json", "merges.txt"]


def test_a_tokenizer_that_never_ends_stops_at_its_bounds(models, spoiled):
    folder = spoiled("tuned")
    doubles = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    change(folder, normalizer={"type": "Sequence", "normalizers": [doubles] * 50})
    assert told(folder, models)
    assert ids(folder, models, most_bytes=1 << 29) is None


def test_a_broken_tokenizer_is_no_number(models, spoiled):
    folder = spoiled("tuned")
    change(folder, normalizer={"type": "NoSuch"})
    assert ids(folder, models) is None
