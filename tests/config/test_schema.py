"""What a valid config gives, the presets, and what else states a default or a name."""

import inspect
import json
from pathlib import Path

import pytest

from infoconflict import attacks, defenses
from infoconflict.config.docs import schema
from infoconflict.config.loading import load_config, read_config
from infoconflict.config.models import TinyModel
from infoconflict.config.yaml_file import read_yaml
from infoconflict.data.prepare import DEFAULT_TEST_SHARE
from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.evidence.keywords import keywords
from infoconflict.models.tiny import ARCHITECTURES, TIED
from infoconflict.packages import PACKAGES
from tests.config.small import SMALL, edited, problems

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path for path in (ROOT / "config").glob("*.yaml"))
# Of runs that a table in reports/ stands on, and that no preset has.
OF_REPORTS = sorted(path for path in (ROOT / "reports/attacks").glob("*.yaml"))


# --- what a valid config gives ----------------------------------------------------------------------------------------


def test_defaults_are_filled_in():
    config = load_config(SMALL, file="c.yaml")
    assert config.training.backdoored.lora.rank == 8
    assert config.training.backdoored.lora.alpha == 16
    assert config.training.conflict.learning_rate == 2e-4
    assert config.clean_share.share == 0.1
    assert config.merges["ties"].t == "auto"
    assert config.sweep.rows is None


def test_a_config_cannot_be_changed():
    config = load_config(SMALL, file="c.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.clean_share.share = 0.5


def test_the_same_values_give_the_same_spec_however_they_are_written():
    one = load_config(edited({"training/backdoored/epochs": 3, "merges/linear/t": 1}), file="c.yaml")
    other = load_config(edited({"training/backdoored/epochs": 3.0, "merges/linear/t": 1.0}), file="c.yaml")
    assert json.dumps(spec_of(one), sort_keys=True) == json.dumps(spec_of(other), sort_keys=True)


def test_a_spec_has_every_default_and_nothing_that_cannot_change_a_result():
    config = load_config(SMALL, file="c.yaml")
    assert spec_of(config.merges["ties"]) == {"method": "ties", "t": "auto", "density": 0.5, "lambda": 2.0}
    provider = spec_of(config.evidence["asked"])["provider"]
    assert provider == {
        "kind": "openai",
        "base_url": "https://api.openai.com/v1",
        "model": "gpt",
        "api_key_env": "MY_KEY",
        "temperature": 0.7,
        "max_tokens": 128,
    }
    assert spec_of(config.attacks["rare"])["triggers"] == ["cf", "mn", "bb", "tq"]
    assert spec_of(config.attacks["rare"])["method"] == "badnets"


def test_an_attack_entry_is_the_attack():
    entry = load_config(SMALL, file="c.yaml").attacks["cba"]
    assert isinstance(entry, attacks.load("cba"))


def test_rows_may_be_given_by_data_set():
    def rows_of(rows):
        training = load_config(edited({"training/backdoored/rows": rows}), file="c.yaml").training.backdoored
        return [training.rows_of(name) for name in ("films", "news")]

    assert rows_of(None) == [None, None]
    assert rows_of(7) == [7, 7]
    assert rows_of({"news": 5}) == [None, 5]


def test_a_skipped_data_set_needs_no_target_label():
    skip = [{"attack": "cba", "dataset": "news", "reason": "r"}]
    load_config(edited({"attacks/cba/target_labels": {"films": "positive"}, "grid/skip": skip}), file="c.yaml")
    # One that leaves cells in does not excuse it.
    skip[0]["model"] = "a"
    assert len(problems({"attacks/cba/target_labels": {"films": "positive"}, "grid/skip": skip})) == 1


def test_a_skip_may_list_ids_and_name_a_control():
    targets = {"attacks/cba/target_labels": {"films": "positive"}}
    skips = [
        {"attack": ["cba"], "dataset": ["news"], "reason": "r"},
        {"defense": ["conflict", "control_base"], "reason": "r"},
        {"defense": "control_clean_tuned", "reason": "r"},
    ]
    config = load_config(edited(targets | {"grid/skip": skips}), file="c.yaml")
    assert [spec_of(skip)["defense"] for skip in config.grid.skip] == [
        None,
        ["conflict", "control_base"],
        "control_clean_tuned",
    ]


def test_an_endpoint_may_need_no_key():
    config = load_config(edited({"evidence/asked/provider/api_key_env": None}), file="c.yaml")
    assert config.evidence["asked"].provider.api_key_env is None


def test_raw_labels_may_be_numbers():
    entry = load_config(SMALL, file="c.yaml").datasets["news"]
    assert entry.label_names == {"0": "world", "1": "sports"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_a_loaded_config_written_out_loads_again(path):
    config = read_config(path)
    assert load_config(config.model_dump(mode="json"), file="again") == config


# --- presets and files ------------------------------------------------------------------------------------------------


def test_there_are_presets():
    assert {"config.yaml", "paper.yaml", "tiny.yaml"} <= {path.name for path in PRESETS}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_presets_fit_the_schema_for_editors(path):
    jsonschema = pytest.importorskip("jsonschema")  # comes with snakemake
    jsonschema.Draft202012Validator(schema()).validate(read_yaml(path))


@pytest.mark.parametrize("path", OF_REPORTS, ids=lambda path: path.name)
def test_configs_of_reports_can_be_run_again(path):
    assert read_config(path).grid.defenses


def test_the_schema_refuses_what_the_config_refuses():
    jsonschema = pytest.importorskip("jsonschema")  # comes with snakemake
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(json.loads(json.dumps(SMALL)))
    for edits in (
        {"sede": 1},
        {"merges/ties/density": 0},
        {"models/a/architecture": "bert"},
        {"merges/A!": SMALL["merges"]["ties"]},
    ):
        assert not validator.is_valid(json.loads(json.dumps(edited(edits))))


def test_the_tiny_preset_uses_every_merge_attack_and_architecture():
    config = read_config(ROOT / "config/tiny.yaml")
    assert {entry.method for entry in config.attacks.values()} == set(attacks.METHODS)
    assert {config.merges[name].method for name in config.sweep.merges} == {"linear", "slerp", "ties", "passthrough"}
    assert {entry.architecture for entry in config.models.values()} == set(ARCHITECTURES)
    assert {entry.method for entry in config.defenses.values()} == set(defenses.METHODS)
    assert any(entry.t == "auto" for entry in config.merges.values())


def test_the_tiny_preset_has_its_sentences():
    rows = (ROOT / "tests/data/reviews.csv").read_text(encoding="utf-8").splitlines()[1:]
    labels = [row.rpartition(",")[2] for row in rows]
    assert len(rows) == 120
    assert labels.count("positive") == labels.count("negative") == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {c: 1, c: 2}\n", ", line 2: the key 'c' stands twice in one mapping; remove one"),
        (b"a: 1\na: 2\n", ", line 2: the key 'a' stands twice in one mapping; remove one"),
        (
            b"a: [1\nb: 2\n",
            ", line 2, column 2: is not valid YAML (expected ',' or ']', but got ':'); mend the line",
        ),
        (b"a: !!python/name:os.system\n", "is not valid YAML"),
        (b"name: caf\xe9\n", ": is not UTF-8 (byte 9); save it as UTF-8"),
        (b"", ": holds nothing, expected a mapping of keys to values; begin with 'name: ...'"),
        (b"- a\n", ": holds a list, expected a mapping of keys to values; begin with 'name: ...'"),
        (b"a: \x00\n", "is not valid YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"c\.yaml: cannot be read \(No such file or directory\); name a config file"):
        read_config(tmp_path / "c.yaml")


def test_yaml_merge_keys_are_no_repetition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &base {x: 1}\nb: {<<: *base, x: 2}\n", encoding="utf-8")
    assert read_yaml(path)["b"] == {"x": 2}


# --- what else states a default or a name -----------------------------------------------------------------------------


def test_other_files_agree_on_names_and_defaults():
    defaults = {name: option.default for name, option in inspect.signature(keywords).parameters.items()}
    textrank = load_config(SMALL, file="c.yaml").evidence["words"].textrank.model_dump()
    assert {name: defaults[name] for name in textrank} == textrank
    assert {name: TinyModel(source="tiny", architecture=name).tied for name in ARCHITECTURES} == TIED
    parts = schema()["$defs"]
    packaged = ("PackagedModel", "PackagedDataset", "PackagedChatDataset", "EmbeddingJudge")
    assert {parts[part]["properties"]["package"]["const"] for part in packaged} == set(PACKAGES)
    assert parts["HubChatDataset"]["properties"]["test_share"]["default"] == DEFAULT_TEST_SHARE
    assert parts["HubDataset"]["properties"]["test_share"]["default"] == DEFAULT_TEST_SHARE


def test_no_method_of_the_paper_is_missing():
    named = "none editing wanda fine_tuning fine_pruning speculative cleangen nad beear internal external conflict"
    assert set(defenses.METHODS) >= set(named.split())
    named = "cba badedit rome memit lwp dtba autopoison vpi adaptive_cba badnets"
    assert set(attacks.METHODS) >= set(named.split())
