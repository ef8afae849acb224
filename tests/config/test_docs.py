"""The schema for editors and the tables of keys: current, complete, and with a source for each default."""

from pathlib import Path

import pytest

from infoconflict.config.docs import refreshed, schema, schema_text
from infoconflict.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_committed_schema_is_current():
    committed = (ROOT / "config/config.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "run: python -m infoconflict.config schema > config/config.schema.json"


def test_the_readme_is_current():
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert text == refreshed(text, where="config/README.md"), (
        "run: python -m infoconflict.config readme config/README.md"
    )


def test_every_key_is_in_the_readme_and_has_a_text():
    readme = (ROOT / "config/README.md").read_text(encoding="utf-8")
    whole = schema()
    keys = 0
    for name, part in {"Config": whole, **whole["$defs"]}.items():
        for key, field in part["properties"].items():
            keys += 1
            assert f"| `{key}` |" in readme, f"{name}.{key} is not in config/README.md"
            assert field.get("description") or "const" in field, f"{name}.{key} has no text under it"
    assert keys > 100


def test_every_default_says_where_it_comes_from():
    sources = ("Ours", "ours", "Paper", "paper", "code", "OpenBackdoor", "Breiman", "if not given", "own setting")
    # Empty, or a name like the key's own, is no choice that would need a source.
    plain = {
        "skip",
        "merges",
        "evidence",
        "subset",
        "label_names",
        "columns",
        "splits",
        "lora",
        "textrank",
        "provider",
        "path",
    } | {"text", "label", "train", "test", "model", "dataset", "attack", "defense", "task", "api_key_env", "base_url"}
    for name, part in schema()["$defs"].items():
        for key, field in part["properties"].items():
            if "default" in field and key not in plain and not isinstance(field["default"], dict):
                assert any(source in field["description"] for source in sources), f"{name}.{key} names no source"


def test_markers_of_the_readme_are_checked():
    with pytest.raises(
        UserError, match=r"^r\.md: the config has no part Nonsense; correct the marker 'keys of Nonsense'$"
    ):
        refreshed("<!-- keys of Nonsense -->\n<!-- end -->", where="r.md")
    with pytest.raises(UserError, match=r"^r\.md: has no table for AdaptiveCBAEntry, .*, VictimTuning, .*; add"):
        refreshed("<!-- keys of Config -->\n<!-- end -->", where="r.md")
