"""Which cells stand in which of the paper's tables, and under which names."""

import json
from pathlib import Path

import pytest

from infoconflict.config.loading import load_config, read_config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.errors import UserError
from infoconflict.grid import Cell, build_grid
from infoconflict.reporting.paper_cells import FIGURES, GOAL, TABLES, Roles, cells_of, roles_of

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
        (cell(dataset="emotion", defense="none"), {"table_2", "table_4", "table_9", "figure_3"}),
        (cell(dataset="emotion", attack="adaptive_cba"), {"table_7"}),
        (cell(dataset="emotion", attack="adaptive_cba", defense="none"), {"table_7"}),
        (cell(attack="adaptive_cba"), {"table_7"}),
        (cell(dataset="other", attack="adaptive_cba", defense="none"), {"table_7"}),
        (cell(dataset="talks", attack="adaptive_cba", defense="none"), set()),
        (cell(dataset="talks", attack="dtba"), {"table_3", "table_5", "table_8", "table_9", "figure_4"}),
        (cell(dataset="talks", attack="vpi", defense="cleangen"), {"table_3", "table_9"}),
    ],
)
def test_a_cell_is_in_its_tables_and_in_no_other(one, targets):
    assert {target for target in (*TABLES, *FIGURES) if cells_of(target, [one], ROLES)} == targets


def test_the_original_attack_stands_beside_the_adaptive_one_on_the_same_data():
    cells = [
        *(cell(dataset=dataset, defense="none") for dataset in ("sst2", "emotion")),
        *(cell(attack="adaptive_cba", defense=defense) for defense in ("none", "conflict", "wanda")),
    ]
    found = [(one.dataset, one.attack, one.defense) for one in cells_of("table_7", cells, ROLES)]
    assert found == [("sst2", "cba", "none"), ("sst2", "adaptive_cba", "none"), ("sst2", "adaptive_cba", "conflict")]


def test_another_id_of_a_method_stands_where_the_first_has_no_cell():
    roles = Roles(
        models={"llama": "llama"},
        datasets={"sst2": "sst2", "talks": "chat"},
        attacks={"cba": "cba", "rome": "rome", "dtba": "dtba"},
        defenses={"ft_full": "fine_tuning", "external": "external", "conflict": "conflict"},
        stand_ins={"fine_tuning": ("ft_10", "ft_long"), "external": ("external_rewritten",)},
    )
    both = [cell(defense=defense) for defense in ("ft_long", "ft_10", "ft_full")]
    one = [cell(attack="rome", defense=defense) for defense in ("ft_long", "ft_10")]
    found = [(found.attack, found.defense) for found in cells_of("table_1", both + one, roles)]
    assert found == [("cba", "ft_full"), ("rome", "ft_10")]
    talks = [cell(dataset="talks", attack="dtba", defense="external_rewritten")]
    assert cells_of("table_5", talks, roles) == talks
    assert roles.chosen("fine_tuning", ("llama", "sst2", "rome"), {("llama", "sst2", "rome", "ft_long")}) == "ft_long"
    assert roles.chosen("fine_tuning", ("llama", "sst2", "rome"), set()) is None


def test_conversations_have_ids_of_their_own_in_the_papers_preset():
    config = read_config(CONFIG / "paper.yaml")
    roles, cells = roles_of(config), build_grid(config).cells
    assert roles.stand_ins["conflict"] == ("conflict_rewritten",)
    assert "internal" not in roles.stand_ins
    own = [one for one in cells_of("table_3", cells, roles) if roles.role_of(one.defense) == "conflict"]
    assert {one.defense for one in own} == {"conflict_rewritten"}
    own = [one for one in cells_of("table_1", cells, roles) if roles.role_of(one.defense) == "conflict"]
    assert {one.defense for one in own} == {"conflict"}
    assert len({one.model for one in own}) == 4


def test_the_goal_needs_the_clean_tuned_model_where_a_further_defense_is():
    cells = [
        *(cell(defense=defense) for defense in ("conflict_plus", "control_clean_tuned", "control_base")),
        cell(attack="rome", defense="control_clean_tuned"),
    ]
    assert cells_of(GOAL, cells, ROLES) == [cells[1]]


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


def test_seeds_ask_the_same_rows_where_a_test_split_is_used_whole():
    # Of conversations a seed draws 200.
    assert roles_of(read_config(CONFIG / "paper.yaml")).same_rows == ("sst2", "emotion")
    assert roles_of(read_config(CONFIG / "smol.yaml")).same_rows == ()
    # The demo's film reviews have one pool.
    assert roles_of(read_config(CONFIG / "config.yaml")).same_rows == ()


def test_the_rows_of_the_grid_are_known_by_table():
    config = read_config(CONFIG / "paper.yaml")
    cells = build_grid(config).cells
    roles = roles_of(config, cells)
    assert roles_of(config).rows == {}
    assert Roles.from_spec(json.loads(json.dumps(roles.as_spec()))) == roles
    # Table 6 has models of its own.
    assert [*roles.rows] == ["1", "2", "3", "4", "5", "7", "8", "9"]
    for number in (1, 2, 3, 4, 5, 8):
        of_table = cells_of(f"table_{number}", cells, roles)
        assert list(roles.rows[str(number)]) == list(dict.fromkeys((c.model, c.dataset, c.attack) for c in of_table))
    assert {roles.attacks[attack] for _, _, attack in roles.rows["7"]} == {"adaptive_cba"}
    assert {row[1] for row in roles.rows["9"]} == {"emotion", "chat_backdoor"}


def test_a_row_that_is_skipped_as_a_whole_is_no_row():
    config = config_with(
        {"none": {"method": "none"}, "wanda": {"method": "wanda"}},
        attacks=["cba", "badedit", "rome"],
        skip=[
            {"attack": "badedit", "reason": "not here"},
            {"attack": "rome", "defense": "wanda", "reason": "not with this defense"},
        ],
        datasets={"reviews": "emotion"},
    )
    rows = roles_of(config, build_grid(config).cells).rows
    cba, rome = (("tiny_gpt2", "reviews", attack) for attack in ("cba", "rome"))
    assert rows["2"] == (cba, rome)
    # Hours of the undefended model alone are no row.
    assert rows["9"] == (cba,)
    assert "7" not in rows


def test_table_9_times_each_defense_beside_a_model_asked_in_its_way():
    defenses = {
        "none": {"method": "none"},
        "none_generated": {"method": "none", "mode": "generate"},
        "cleangen": {"method": "cleangen"},
        "wanda": {"method": "wanda"},
        "internal": {"method": "internal", "merge": "linear"},
        "conflict": {"method": "conflict", "merge": "linear", "evidence": "recorded_keywords"},
    }
    config = config_with(defenses, datasets={"reviews": "emotion"})
    cells = build_grid(config).cells
    roles = roles_of(config, cells)
    assert roles.generating == ("none_generated", "cleangen")
    assert roles.as_fast == ("wanda", "internal")
    row = (cells[0].model, "reviews", "cba")
    there = {(*row, name) for name in defenses}
    found = {name: roles.undefended(name, row, there) for name in defenses}
    assert found["cleangen"] == "none_generated"
    assert found["conflict"] == "none"
    assert found["wanda"] is found["internal"] is None
    assert roles.undefended("cleangen", row, there - {(*row, "none_generated")}) is None
    # Its target computes both undefended models; the others have no use for the second.
    assert {one.defense for one in cells_of("table_9", cells, roles)} == {*defenses} - {"internal"}
    assert "none_generated" not in {one.defense for one in cells_of("table_2", cells, roles)}


def test_generated_models_are_no_models_of_the_paper():
    roles = roles_of(read_config(CONFIG / "tiny.yaml"))
    assert roles.models == {}
    assert roles.datasets == {"reviews": "sst2", "chats": "chat"}


def config_with(defenses, attacks=("cba",), skip=(), **paper):
    raw = read_yaml(CONFIG / "tiny.yaml")
    raw["defenses"] = defenses
    raw["grid"] = {"models": ["tiny_gpt2"], "datasets": ["reviews"], "attacks": [*attacks], "defenses": [*defenses]}
    raw["grid"]["skip"] = [*skip]
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
            "other_conflict": {"method": "conflict", "merge": "linear", "evidence": "recorded_keywords"},
        },
        further_defenses=["conflict_plus"],
    )
    roles = roles_of(config)
    assert roles.defenses == {"none": "none", "internal": "internal", "my_conflict": "conflict"}
    assert roles.further == ("conflict_plus",)
    # Another merge would be another method.
    assert roles.stand_ins == {"conflict": ("other_conflict",)}
    # Table 8 compares merges of one kind: here only the internal conflict has several.
    assert roles.merges == {"internal": "linear", "internal_slerp": "slerp", "internal_ties": "ties"}
    assert roles.merge_kind == "internal"


def test_names_that_the_config_gives_come_first():
    config = config_with({"none": {"method": "none"}}, models={"tiny_gpt2": "gpt2_xl"}, datasets={"reviews": "emotion"})
    roles = roles_of(config)
    assert (roles.models, roles.datasets) == ({"tiny_gpt2": "gpt2_xl"}, {"reviews": "emotion"})


def test_names_that_are_not_defined_are_said():
    with pytest.raises(UserError, match="tiny_gpt3"):
        config_with({"none": {"method": "none"}}, models={"tiny_gpt3": "gpt2_xl"})
    with pytest.raises(UserError, match="conflict_pus"):
        config_with({"none": {"method": "none"}}, further_defenses=["conflict_pus"])
