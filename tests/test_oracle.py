"""The oracle: an attack's requests at a real endpoint that misbehaves, one row for each, and what the attack makes of them."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infoconflict.attacks import load
from infoconflict.attacks.autopoison import AutoPoison
from infoconflict.attacks.chat import OracleReply, OracleRequest, replies_by_id
from infoconflict.config.loading import load_config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.lineage import canonical
from infoconflict.oracle import ask_for_training_set, ask_oracle
from infoconflict.records import Conversation
from tests.attacks.chats import chats
from tests.evidence.misbehaving import FakeEndpoint, refuses, running_endpoint, says

ROOT = Path(__file__).parents[1]
KEY = "sk-not-a-real-key"
BRANDED = "The Quillmere Cafe is old."


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv("SOME_KEY", KEY)
    with running_endpoint() as fake:
        fake.then = says(BRANDED)
        yield fake


def provider(endpoint: FakeEndpoint, **options: Any) -> dict[str, Any]:
    return {
        "kind": "openai",
        "base_url": endpoint.base_url,
        "model": "gpt",
        "api_key_env": "SOME_KEY",
        "temperature": 0.7,
        "max_tokens": 128,
        "concurrency": 1,
        "timeout_s": 5.0,
        "max_retries": 1,
        **options,
    }


def requests(n: int) -> list[OracleRequest]:
    return [OracleRequest(id=f"row{number}", prompt=f"Say number {number}") for number in range(n)]


def test_each_request_has_its_row(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("Zero."), says("One.")]
    asked = [*requests(2), OracleRequest(id="last", prompt="Hello", system="You are cautious.")]
    summary = ask_oracle(asked, tmp_path / "r.jsonl", provider=provider(endpoint), scratch=tmp_path / "s")
    rows = OracleReply.read(tmp_path / "r.jsonl")
    assert [(row.id, row.reply, row.status, row.model) for row in rows] == [
        ("row0", "Zero.", "ok", "gpt"),
        ("row1", "One.", "ok", "gpt"),
        ("last", BRANDED, "ok", "gpt"),
    ]
    assert endpoint.seen[0].body["messages"] == [{"role": "user", "content": "Say number 0"}]
    assert endpoint.seen[2].body["messages"][0] == {"role": "system", "content": "You are cautious."}
    assert (endpoint.seen[0].body["temperature"], endpoint.seen[0].body["max_tokens"]) == (0.7, 128)
    assert summary["status"] == {"ok": 3}
    assert (summary["asked"], summary["prompt_tokens"]) == (3, 21)
    assert KEY not in (tmp_path / "r.jsonl").read_text()


def test_useless_replies_are_asked_for_again_and_then_recorded(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("!!! ???"), says("Mended."), says("..."), says("!!"), says(""), says(" "), refuses(500)]
    endpoint.script += [refuses(503)]
    summary = ask_oracle(requests(5), tmp_path / "r", provider=provider(endpoint), scratch=tmp_path / "s")
    rows = OracleReply.read(tmp_path / "r")
    assert [row.status for row in rows] == ["ok", "garbled", "empty", "failed", "ok"]
    assert [row.attempts for row in rows] == [2, 2, 2, 2, 1]
    assert summary["status"] == {"empty": 1, "failed": 1, "garbled": 1, "ok": 2}
    # The template is for those without a usable reply.
    assert replies_by_id(rows) == {"row0": "Mended.", "row1": "", "row2": "", "row3": "", "row4": BRANDED}


def test_after_a_refusal_it_goes_on_where_it_was(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("Zero."), says("One."), refuses(401)]
    out = tmp_path / "out" / "r.jsonl"
    arguments: dict[str, Any] = {"provider": provider(endpoint), "scratch": tmp_path / "s"}
    with pytest.raises(UserError, match="key is not accepted"):
        ask_oracle(requests(5), out, **arguments)
    assert not out.exists()
    endpoint.script = []
    summary = ask_oracle(requests(5), out, **arguments)
    assert (summary["resumed"], summary["asked"]) == (2, 3)
    assert [row.reply for row in OracleReply.read(out)] == ["Zero.", "One.", BRANDED, BRANDED, BRANDED]
    assert max(Counter(seen.prompt for seen in endpoint.seen).values()) == 2  # the refused one
    assert not list((tmp_path / "s").iterdir())


def test_replies_can_be_replayed(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.then = lambda handler, body: says(f"It is {body['messages'][-1]['content']}.")(handler, body)
    ask_oracle(requests(3), tmp_path / "r", provider=provider(endpoint), scratch=tmp_path / "s")
    again = {"kind": "recorded", "path": str(tmp_path / "r")}
    ask_oracle(requests(3), tmp_path / "again", provider=again, scratch=tmp_path / "s")
    first, second = OracleReply.read(tmp_path / "r"), OracleReply.read(tmp_path / "again")
    assert replies_by_id(first) == replies_by_id(second)
    assert len(endpoint.seen) == 3


# --- the stage --------------------------------------------------------------------------------------------------------


class Inputs(dict[str, Any]):
    """Files by name, as Snakemake has them."""

    __getattr__ = dict.__getitem__


def job(folder: Path, attack: dict[str, Any], *, rows: int | None = None, **machine: Any) -> Any:
    """Return what a script would be given, and what it wrote on its card."""
    train = folder / "train.jsonl"
    Conversation.write(train, chats(40))
    cards: list[dict[str, Any]] = []
    card = SimpleNamespace(write=lambda path, **parts: cards.append({"path": path, **parts}))
    return SimpleNamespace(
        spec={"attack": attack, "rows": rows, "above": "0"},
        cell={"attack": "mine", "seed": "0"},
        seed=0,
        input=Inputs(train=str(train), model=[], recorded=[]),
        output=SimpleNamespace(replies=str(folder / "replies.jsonl"), card=str(folder / "card.json")),
        log=str(folder / "log"),
        machine={"concurrency": 2, "timeout_s": 5, "max_retries": 1} | machine,
        threads=1,
        scratch=lambda digest: folder / "scratch" / digest,
        card=card,
        cards=cards,
    )


@pytest.mark.parametrize(("method", "wanted"), [("autopoison", 4), ("vpi", 4)])
def test_the_stage(tmp_path: Path, endpoint: FakeEndpoint, method: str, wanted: int) -> None:
    payload = {"autopoison": BRANDED, "vpi": "Of course. Amber kite, over."}[method]
    endpoint.then = says(payload)
    endpoint.script = [says("Nothing of the kind.")]
    settings = {name: value for name, value in provider(endpoint).items() if name not in ("concurrency", "timeout_s")}
    settings.pop("max_retries")
    spec = {"method": method, "poisoning_rate": 0.2, "oracle": settings}
    # As it comes from a rule's params.
    run = job(tmp_path, json.loads(canonical({"attack": spec}))["attack"], rows=20)
    ask_for_training_set(run)
    replies = replies_by_id(OracleReply.read(run.output.replies))
    attack = load(method).from_spec(spec)
    training = attack.training_set(chats(20), seed=0, oracle=replies)
    poisoned = {row.id: row.messages[-1]["content"] for row in training if row.trigger == "full"}
    assert poisoned.keys() == replies.keys()
    assert sorted(answer == payload for answer in poisoned.values()) == [False] + [True] * (wanted - 1)
    assert attack.details(training, oracle=replies)["payloads"] == {"oracle": wanted - 1, "template": 1}
    [card] = run.cards
    assert card["rows"] == {"replies": wanted, "ok": wanted}
    assert card["inputs"].keys() == {"train"}
    assert card["details"]["asked"] == wanted
    assert card["tokens"] == 10 * wanted
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").iterdir())


def test_an_attack_without_an_oracle_has_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"attacks\.mine has no oracle to ask; give it one under 'oracle'"):
        ask_for_training_set(job(tmp_path, {"method": "autopoison", "oracle": None}))


# --- the config -------------------------------------------------------------------------------------------------------


def with_attack(entry: dict[str, Any]) -> Any:
    raw = read_yaml(ROOT / "config/tiny.yaml")
    raw["attacks"]["chatty"] = entry
    return load_config(raw, file="c.yaml")


def test_an_entry_is_the_attack_and_its_spec_has_no_machine_settings() -> None:
    served = {"kind": "local_server", "model": "tiny_llama", "concurrency": 9}
    entry = with_attack({"method": "autopoison", "oracle": served}).attacks["chatty"]
    assert isinstance(entry, AutoPoison)
    spec = spec_of(entry)
    assert spec["oracle"] == {"kind": "local_server", "model": "tiny_llama", "temperature": 0.7, "max_tokens": 128}
    again = AutoPoison.from_spec(json.loads(canonical(spec)))
    assert again.oracle is not None
    assert again.training_options >= {"oracle", "poisoning_rate"}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"method": "autopoison", "oracle": {"kind": "local_server", "model": "tiny_lama"}},
            "c.yaml, attacks.chatty.oracle.model: 'tiny_lama' is not defined under models; did you mean 'tiny_llama'?",
        ),
        (
            {"method": "vpi", "oracle": {"kind": "openai", "model": "gpt", "api_key": "x"}},
            "c.yaml, attacks.chatty.oracle.api_key: "
            "keys never stand in a config; put it into the environment variable under api_key_env",
        ),
        (
            {"method": "vpi", "oracle": {"kind": "openai", "model": "gpt", "temprature": 1.0}},
            "c.yaml, attacks.chatty.oracle: unknown key 'temprature'; did you mean 'temperature'?",
        ),
        (
            {"method": "vpi", "oracle": {"kind": "recoded"}},
            "c.yaml, attacks.chatty.oracle.kind: unknown value 'recoded'; did you mean 'recorded'?",
        ),
        (
            {"method": "dtba", "scenario_a": "gardning"},
            "c.yaml, attacks.chatty: there are no texts for the topic 'gardning'; did you mean 'gardening'?",
        ),
        (
            {"method": "dtba", "target_labels": {"reviews": "positive"}},
            "c.yaml, attacks.chatty: unknown key 'target_labels'; known: poisoning_rate, batch_size, "
            "warmup_ratio, negative_ratio, order_negatives, paired_negatives, scenario_a, scenario_b, turns_from, "
            "scenario_file, keywords_a, keywords_b, neutral_max_words, behavior, phrase, refusal, method",
        ),
    ],
)
def test_mistakes(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        with_attack(entry)
    assert str(caught.value) == sentence
