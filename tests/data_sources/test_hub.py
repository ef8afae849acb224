import os
import re
import subprocess
import sys

import pytest

from infoconflict.data.hub import read_hub
from infoconflict.errors import UserError

datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")

SPEC = {
    "source": "hub",
    "repo": "someone/reviews",
    "revision": "v1",
    "subset": "plain",
    "splits": {"train": "train", "test": "validation"},
    "columns": {"text": "sentence", "label": "label"},
    "labels": ["negative", "positive"],
}


@pytest.fixture
def hub(monkeypatch):
    """Serve a small data set in the hub's place, and keep what was asked for."""
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        splits = {
            "train": [("good", 1), ("dull", 0), ("warm", 1)],
            "validation": [("bad ", 0)],
            "test": [("unknown", -1)],
        }
        return datasets.DatasetDict(
            {
                name: datasets.Dataset.from_dict(
                    {"sentence": [text for text, _ in rows], "label": [label for _, label in rows]}, features=features
                )
                for name, rows in splits.items()
            }
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_rows_come_from_the_splits_and_columns_of_the_spec(hub):
    rows = read_hub(SPEC)
    assert {split: [(row.text, row.label) for row in rows[split]] for split in rows} == {
        "train": [("good", "positive"), ("dull", "negative"), ("warm", "positive")],
        "test": [("bad", "negative")],
    }
    assert hub == [(("someone/reviews", "plain"), {"revision": "v1"})]


def test_label_names_of_the_spec_come_before_the_data_sets_own(hub):
    spec = SPEC | {"label_names": ["bad", "good"], "labels": ["good", "bad"]}
    assert [row.label for row in read_hub(spec)["train"]] == ["good", "bad", "good"]


def test_the_test_split_is_optional(hub):
    assert list(read_hub(SPEC | {"splits": {"train": "train", "test": None}})) == ["train"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"splits": {"train": "trian"}},
            "no split 'trian'; did you mean 'train'? splits found: train, validation, test",
        ),
        (
            {"columns": {"text": "text", "label": "label"}},
            "split train: no column 'text'; columns found: sentence, label",
        ),
        ({"splits": {"train": "test"}}, "split test, row 1: unknown label '-1'; -1 marks a split without labels"),
        ({"labels": ["bad", "good"]}, "split train, row 1: label_names turns '1' into 'positive'"),
    ],
)
def test_what_is_not_there_is_named(hub, change, complaint):
    with pytest.raises(UserError, match=f"^hub data set someone/reviews(, |: ){re.escape(complaint)}"):
        read_hub(SPEC | change)


def test_a_hub_out_of_reach_is_one_sentence(tmp_path):
    code = f"""
from infoconflict.data.prepare import prepare_dataset
from infoconflict.errors import UserError
try:
    prepare_dataset({SPEC | {"instruction": "?"}!r}, seed=0, out_dir={str(tmp_path / "out")!r})
except UserError as error:
    print("UserError:", error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("UserError:")]
    assert len(said) == 1
    assert re.search(r"hub data set someone/reviews \(subset plain, revision v1\) cannot be loaded", said[0])
    assert said[0].endswith("check the name, the network and HF_HUB_OFFLINE, or use files with source: local")
    assert not (tmp_path / "out").exists()
