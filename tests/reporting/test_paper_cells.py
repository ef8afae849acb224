"""Which cells stand in which of the paper's tables, and under which names."""

from pathlib import Path

import pytest

from infoconflict.config.loading import load_config, read_config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.errors import UserError
from infoconflict.grid import Cell, build_grid
from infoconflict.reporting.paper_cells import FIGURES, TABLES, Roles, cells_of, roles_of

CONFIG = Path(__file__).parents[2] / "config"


def cell(model="llama", dataset="sst2", attack="cba", defense="conflict"):
    return Cell(model=model, dataset=dataset, attack=attack, defense=defense, seed=0)


ROLES = Roles(
    models={"llama": "llama", "gptj": "gptj"},
    datasets={"sst2": "sst2", "emotion": "emotion", "talks": "chat"},
    attacks={name: name for name in ("cba", "lwp", "rome", "adaptive_cba", "dtba", "vpi")},
    defenses={name: name for name in ("none", "wanda", "internal", "external", "conflict", "cleangen")},
    merges={"conflict": "linear", "conflict_ties": "ties"},
    further=("conflict_plus",),
)


@pytest.mark.parametrize(
    ("one", "targets"),
    [
        (cell(), {"table_1", "table_4", "table_8"}),
        (cell(model="gptj"), {"table_1", "table_4"}),
        (cell(model="new"), {"table_1", "table_4", "table_8"}),
        (cell(defense="wanda"), {"table_1"}),
        (cell(defense="internal"), {"table_4"}),
        (cell(defense="conflict_plus"), {"table_1"}),
        (cell(defense="conflict_ties"), {"table_8"}),
        (cell(attack="badnets"), set()),
        (cell(dataset="other"), set()),
        (cell(defense="control_base"), set()),
        (cell(dataset="emotion"), {"table_2", "table_4", "table_8", "table_9", "figure_4"}),
        (cell(dataset="emotion", attack="lwp"), {"table_2", "table_4", "table_8", "figure_4"}),
        (cell(dataset="emotion", defense="none"), {"table_2", "table_4", "table_7", "figure_3"}),
        (cell(dataset="emotion", attack="adaptive_cba"), {"table_7"}),
        (cell(dataset="emotion", attack="adaptive_cba", defense="none"), {"table_7"}),
        (cell(dataset="talks", attack="dtba"), {"table_3", "table_5", "table_8", "table_9", "figure_4"}),
        (cell(dataset="talks", attack="vpi", defense="cleangen"), {"table_3", "table_9"}),
    ],
)
def test_a_cell_is_in_its_tables_and_in_no_other(one, targets):
    assert {target for target in (*TABLES, *FIGURES) if cells_of(target, [one], ROLES)} == targets


def test_the_papers_preset_is_recognised_by_name():
    config = read_config(CONFIG / "paper.yaml")
    roles = roles_of(config)
    assert roles.models == {name: name for name in ("gpt2_xl", "gptj", "llama", "llama2")}
    assert roles.datasets == {"sst2": "sst2", "emotion": "emotion", "chat_backdoor": "chat"}
    assert "badnets" not in roles.attacks
    grid = build_grid(config)
    for number in (1, 2, 3, 4, 7, 8):
        assert cells_of(f"table_{number}", grid.cells, roles)
    assert Roles.from_spec(roles.as_spec()) == roles


def test_generated_models_are_no_models_of_the_paper():
    roles = roles_of(read_config(CONFIG / "tiny.yaml"))
    assert roles.models == {}
    assert roles.datasets == {"reviews": "sst2", "chats": "chat"}


def config_with(defenses, **paper):
    raw = read_yaml(CONFIG / "tiny.yaml")
    raw["defenses"] = defenses
    raw["grid"] = {"models": ["tiny_gpt2"], "datasets": ["reviews"], "attacks": ["cba"], "defenses": [*defenses]}
    raw["paper"] = paper
    for section in ("clean_share_curve", "role_swap", "direct"):
        raw.pop(section, None)
    return load_config(raw, file="made_up.yaml")


def test_of_several_ids_of_a_method_the_plain_one_is_the_papers():
    merged = {"method": "internal"}
    config = config_with(
        {
            "none": {"method": "none"},
            "internal_slerp": merged | {"merge": "slerp"},
            "internal": merged | {"merge": "linear"},
            "internal_ties": merged | {"merge": "ties"},
            "conflict_plus": {"method": "conflict", "merge": "ties", "evidence": "recorded_keywords"},
            "my_conflict": {"method": "conflict", "merge": "linear", "evidence": "recorded_keywords"},
        },
        further_defenses=["conflict_plus"],
    )
    roles = roles_of(config)
    assert roles.defenses == {"none": "none", "internal": "internal", "my_conflict": "conflict"}
    assert roles.further == ("conflict_plus",)
    # Table 8 compares merges of one kind: here only the internal conflict has several.
    assert roles.merges == {"internal": "linear", "internal_slerp": "slerp", "internal_ties": "ties"}


def test_names_that_the_config_gives_come_first():
    config = config_with({"none": {"method": "none"}}, models={"tiny_gpt2": "gpt2_xl"}, datasets={"reviews": "emotion"})
    roles = roles_of(config)
    assert (roles.models, roles.datasets) == ({"tiny_gpt2": "gpt2_xl"}, {"reviews": "emotion"})


def test_names_that_are_not_defined_are_said():
    with pytest.raises(UserError, match="tiny_gpt3"):
        config_with({"none": {"method": "none"}}, models={"tiny_gpt3": "gpt2_xl"})
    with pytest.raises(UserError, match="conflict_pus"):
        config_with({"none": {"method": "none"}}, further_defenses=["conflict_pus"])
