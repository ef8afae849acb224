"""The judges that a config names."""

import pytest

from infoconflict.config.loading import load_config
from infoconflict.entries import spec_of
from tests.config.small import edited, problems

ASKED = {"kind": "llm", "provider": {"kind": "openai", "model": "gpt"}}


def judges_of(**evaluation: object) -> list[dict[str, object]]:
    return load_config(edited({"evaluation": evaluation}), file="c.yaml").evaluation.judges()


def test_judges_by_default():
    embedding, pattern = judges_of()
    assert (embedding["name"], embedding["claims"]) == ("embedding", ["equivalent"])
    assert (pattern["name"], pattern["claims"]) == ("pattern", ["payload"])


def test_a_judge_in_two_places_is_asked_for_both():
    found = judges_of(judge=ASKED, payload_judge=ASKED, compare_judges=[{"kind": "exact"}, {"kind": "pattern"}])
    assert [(judge["name"], judge["claims"]) for judge in found] == [
        ("llm:gpt", ["equivalent", "payload"]),
        ("exact", ["equivalent"]),
        ("pattern", ["equivalent", "payload"]),
    ]
    assert found[0]["provider"]["temperature"] == 0
    # How patiently it is asked is no setting of the judge.
    assert "timeout_s" not in found[0]["provider"]


def test_patience_with_judges_is_no_science():
    patient = {"evaluation": {"compare_judges": [{**ASKED, "provider": {**ASKED["provider"], "timeout_s": 9.0}}]}}
    hasty = {"evaluation": {"compare_judges": [ASKED]}}
    specs = [spec_of(load_config(edited(edits), file="c.yaml").evaluation) for edits in (patient, hasty)]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("evaluation", "sentence"),
    [
        (
            {"judge": {"kind": "exakt"}},
            "c.yaml, evaluation.judge.kind: unknown value 'exakt'; did you mean 'exact'?",
        ),
        (
            {"judge": {"kind": "embedding", "treshold": 0.5}},
            "c.yaml, evaluation.judge: unknown key 'treshold'; did you mean 'threshold'?",
        ),
        (
            {"judge": {"kind": "exact"}, "compare_judges": [{"kind": "exact"}]},
            "c.yaml, evaluation: judge and compare_judges name the judge 'exact' more than once; keep one",
        ),
        (
            {"judge": {**ASKED, "rubric": "Same city?"}, "payload_judge": ASKED},
            "c.yaml, evaluation: payload_judge and judge have the judge 'llm:gpt' with different settings; make them the same",
        ),
        (
            {"compare_judges": [{"kind": "llm", "provider": {"kind": "local_server", "model": "c"}}]},
            "c.yaml, evaluation.compare_judges[0].provider.model: 'c' is not defined under models; defined: a, b",
        ),
    ],
)
def test_mistakes_with_judges(evaluation, sentence):
    assert problems({"evaluation": evaluation}) == [sentence]
