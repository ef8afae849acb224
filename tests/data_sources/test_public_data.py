"""The sources on real data. None of it is in the repository: two environment variables say where copies lie."""

import os
from pathlib import Path

import pytest

from infoconflict.data.prepare import prepare_dataset
from infoconflict.data.splits import draw_clean_share
from infoconflict.packages import PACKAGES
from infoconflict.records import Example

EMOTIONS = ["sadness", "joy", "love", "anger", "fear", "surprise"]


def folder_of(variable, what):
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"set {variable} to the folder that holds {what}")
    return Path(folder)


@pytest.fixture
def data():
    return folder_of("INFOCONFLICT_DATA", "sst2/ and emotion/ with train, dev and test as jsonl.gz")


def local(data, name, test, labels, **more):
    spec = {"source": "local", "train": f"{data}/{name}/train.jsonl.gz", "test": f"{data}/{name}/{test}.jsonl.gz"}
    return spec | {"columns": {"text": "text", "label": "label"}, "instruction": "?", "labels": labels} | more


def test_sst2(data, tmp_path):
    labels = ["negative", "positive"]
    details = prepare_dataset(local(data, "sst2", "dev", labels, label_names=labels), seed=0, out_dir=tmp_path)
    assert details["labels"]["test"] == {"negative": 428, "positive": 444}
    assert details["duplicates"]["across"] == 0
    # 371 texts are there twice or more letter by letter; a few more differ only in case or spacing.
    taken_out = details["duplicates"]["within"]["train"] + details["left_out"]["conflicting_labels"]
    assert details["rows"]["train"] == 67_349 - taken_out
    assert 371 <= taken_out <= 400


def test_sst2_against_the_treebanks_test_split(data, tmp_path):
    labels = ["negative", "positive"]
    details = prepare_dataset(local(data, "sst2", "test", labels, label_names=labels), seed=0, out_dir=tmp_path)
    assert details["duplicates"]["across"] >= 2


def test_emotion(data, tmp_path):
    spec = local(data, "emotion", "test", EMOTIONS, label_names=EMOTIONS)
    details = prepare_dataset(spec, seed=0, out_dir=tmp_path)
    assert details["labels"]["test"] == dict(zip(EMOTIONS, (581, 695, 159, 275, 224, 66), strict=True))
    assert details["duplicates"]["across"] == 11
    train = Example.read(tmp_path / "train.jsonl")
    small, large = (draw_clean_share(train, share=share, holdout=0.2, seed=0) for share in (0.05, 0.1))
    assert set(small[0]) <= set(large[0])
    assert {row.gold_label for row in small[1]} == set(EMOTIONS)


def test_film_reviews(tmp_path):
    package = PACKAGES["vader_film_reviews"]
    archive = folder_of("INFOCONFLICT_SOURCES", f"{package.file}, such as results/sources after a run") / package.file
    spec = {
        "source": "packaged",
        "package": "vader_film_reviews",
        "instruction": "?",
        "labels": ["negative", "positive"],
    }
    details = prepare_dataset(
        spec | {"min_abs_rating": 1.0, "max_words": 20}, source_file=archive, seed=0, out_dir=tmp_path
    )
    assert sum(details["rows"].values()) == 5_432
    assert details["left_out"]["near_neutral"] == 1_432
