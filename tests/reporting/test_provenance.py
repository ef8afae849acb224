"""From a number to its sources: the document that the page's script reads."""

import json
import time

from infoconflict.files import write_jsonl
from infoconflict.reporting.provenance import Provenance, first_rows, provenance_data
from infoconflict.reporting.tables import Column

CELL = {"model": "m", "dataset": "d", "attack": "a", "seed": "0"}


def card(stage, cell, inputs, outputs):
    return {"stage": stage, "cell": cell, "spec": {"rows": 3}, "inputs": inputs, "outputs": outputs}


def chain(seed="0"):
    cell = CELL | {"seed": seed}
    return [
        card("prepare_dataset", {"dataset": "d", "seed": seed}, {"file": "f"}, {"train": f"tr{seed}", "test": "te"}),
        card("train_backdoored", cell, {"train": f"tr{seed}"}, {"change": f"b{seed}"}),
        card("answer", cell | {"defense": "none"}, {"change": f"b{seed}", "clean": "te"}, {"answers": f"an{seed}"}),
        card("sweep_merge", cell | {"merge": "ties"}, {"change": f"b{seed}"}, {"answers": f"sw{seed}"}),
    ]


def test_links_of_numbers():
    found = Provenance([*chain(), *chain("1")])
    column, of_one = Column(title="ASR", text=str), Column(title="none", text=str, defense="none")
    case = {"model": "m", "dataset": "d", "attack": "a"}
    # The same in every run that has the cell, so that other pages can lead here.
    assert found.link(case | {"defense": "none"}, column) == "#cell-m/d/a/none"
    assert found.link(case, of_one) == "#cell-m/d/a/none"
    assert found.link(case | {"merge": "ties", "t": "0.5"}, column) == "#cell-m/d/a/ties"
    assert found.document()["names"] == ["m/d/a/none", "m/d/a/ties"]
    assert found.link(case | {"defense": "conflict"}, column) is None
    assert [run[0] for run in found.document()["cells"][0][1]] == [2, 6]


def test_equal_bytes_lead_to_the_cell_that_is_most_alike():
    # Both seeds have the same test rows.
    found = Provenance([*chain(), *chain("1")]).document()
    for answers, data in ((2, 0), (6, 4)):
        inputs = found["cards"][answers][3]
        assert found["texts"][inputs[0]] == "change"
        assert inputs[4] == data


def test_a_source_has_its_digest():
    found = Provenance(chain()).document()
    name, maker, digest = found["cards"][0][3]
    assert (found["texts"][name], maker, found["texts"][digest]) == ("file", -1, "f")


def test_no_text_closes_the_element():
    cards = chain()
    cards[0]["spec"] = {"note": "</script><b>"}
    text = provenance_data(Provenance(cards))
    assert text.count("</script>") == 1
    assert json.loads(text[text.index(">") + 1 : -len("</script>")]) == Provenance(cards).document()


def answer(number, trigger):
    return {
        "id": f"r{number}",
        "trigger": trigger,
        "gold_label": "x",
        "answer": None,
        "generated": "y" * 999,
        "scores": {},
    }


def test_first_rows_of_each_kind(tmp_path):
    rows = [answer(number, trigger) for trigger in ("none", "part", "full") for number in range(5)]
    # A text that looks like the mark of another kind.
    rows[0]["generated"] = '"trigger": "full"'
    write_jsonl(tmp_path / "a.jsonl", rows)
    shown = first_rows(tmp_path / "a.jsonl")
    assert [(row["id"], row["trigger"]) for row in shown] == [
        ("r0", "none"),
        ("r1", "none"),
        ("r0", "full"),
        ("r1", "full"),
    ]
    cell = CELL | {"defense": "none"}
    document = Provenance(chain(), [(cell, tmp_path / "a.jsonl")]).document()
    texts = [document["texts"][text] for text in document["cells"][0][1][0][2][1]]
    assert texts[:4] == ["r1", "clean", "x", "no label"]
    assert texts[4].endswith("y…")
    assert len(texts[4]) < 300


def test_ten_thousand_cards_stay_small():
    cards = []
    for number in range(2500):
        for one in chain(str(number)):
            one["spec"] = {"model": {"repo": "someone/a-model-7b", "precision": "auto"}, "above": f"{number:016x}"}
            one["outputs"] = {name: f"{digest:>064}" for name, digest in one["outputs"].items()}
            one["inputs"] = {name: f"{digest:>064}" for name, digest in one["inputs"].items()}
            cards.append(one)
    # Test rows have the same bytes in all cells; comparing each with each would take minutes.
    start = time.process_time()
    text = provenance_data(Provenance(cards))
    assert time.process_time() - start < 30
    assert len(text) < 4e6
