"""Method cards say what the modules say, and all that a config uses has one."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from infoconflict import attacks, defenses
from infoconflict.config.loading import load_config
from infoconflict.entries import spec_of
from infoconflict.reporting.methods import marked_up, method_cards, method_files, methods_section

# An arXiv number, or an author and a year.
SOURCE = re.compile(r"arXiv:\d{4}\.\d{5}|[A-Z]\w+ (et al\. )?(19|20)\d\d")
DEVIATIONS = re.compile(r"(Differs from|As in) [^.:]*:")
ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/infoconflict"
CONFIG = {
    "grid": {"attacks": ["words", "more_words"], "defenses": ["none", "conflict"]},
    "attacks": {
        "words": {"method": "badnets", "triggers": ["cf"], "poisoning_rate": 0.1},
        "more_words": {"method": "badnets", "triggers": ["cf", "mn"], "poisoning_rate": 0.1},
        "unused": {"method": "cba"},
    },
    "defenses": {"none": {"method": "none"}, "conflict": {"method": "conflict", "merge": "t_07"}},
    "merges": {"t_07": {"method": "ties", "t": 0.7, "density": 0.5}},
}


def test_worked_example():
    (card,) = method_cards("attacks", CONFIG)
    assert (card.name, card.file, list(card.used_by)) == ("badnets", "attacks/badnets.py", ["words", "more_words"])
    doc = ast.get_docstring(ast.parse((PACKAGE / card.file).read_text()))
    assert card.paragraphs[0] == doc.splitlines()[0]
    assert card.options["n_triggers"] == "Words inserted into each row. OpenBackdoor."
    assert [card.name for card in method_cards("defenses", CONFIG)] == ["none", "conflict"]
    assert method_files(CONFIG) == [
        *("attacks/badnets.py", "defenses/none.py", "defenses/conflict.py", "merging/ties.py"),
    ]


def test_deviations_stand_on_a_line_of_their_own():
    (card,) = method_cards("merges", CONFIG)
    assert any(paragraph.startswith("Differs from the paper: Eq. 11") for paragraph in card.paragraphs)


def test_shown():
    text = methods_section(CONFIG)
    dash = "\N{EN DASH}"
    assert f"<summary>BadNets {dash} BadNets for text: rare words as trigger, the label replaced by the target<" in text
    assert "words: [&quot;cf&quot;]; more_words: [&quot;cf&quot;, &quot;mn&quot;]" in text
    assert "cba" not in text
    assert "0.1" in text


def test_names_in_text_are_code():
    assert (
        marked_up("a ``b < c`` and :mod:`x.y`, `z`") == "a <code>b &lt; c</code> and <code>x.y</code>, <code>z</code>"
    )


@pytest.mark.parametrize(
    ("section", "methods"),
    [
        ("attacks", attacks.METHODS),
        ("defenses", defenses.METHODS),
        ("merges", ("linear", "slerp", "ties", "passthrough")),
    ],
)
def test_every_method_names_its_source_and_where_it_differs(section, methods):
    cards = method_cards(section, {section: {name: {"method": name} for name in methods}})
    assert [card.name for card in cards] == list(methods)
    for card in cards:
        assert len(card.paragraphs[0]) > 20
        # No defense at all has neither.
        if card.name != "none":
            assert SOURCE.search(" ".join(card.paragraphs)), f"{card.file} names no source"
            assert any(DEVIATIONS.match(text) for text in card.paragraphs), f"{card.file} does not say where it differs"


def test_a_whole_config():
    config = spec_of(load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()), file="config.yaml"))
    files = method_files(config)
    assert "attacks/cba.py" in files
    assert all((PACKAGE / file).is_file() for file in files)
    assert "arXiv" in methods_section(config)
