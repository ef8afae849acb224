"""What the experiments beside the grid ask for: golden lists, and counts of the presets."""

from pathlib import Path

import pytest

from infoconflict.config.loading import load_config, read_config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.entries import spec_of
from infoconflict.experiments.cells import (
    CurvePoint,
    DirectQuestions,
    RoleMerge,
    curve_points,
    direct_questions,
    own_points,
    role_merges,
)
from infoconflict.experiments.roles import share_name
from infoconflict.grid import build_grid

CONFIG = Path(__file__).parents[2] / "config"


def tiny(**sections):
    config = load_config(read_yaml(CONFIG / "tiny.yaml") | sections, file="tiny.yaml")
    return config, build_grid(config)


def test_the_tiny_curve_has_points_of_its_own_on_each_task():
    config, grid = tiny()
    chats, ties = ({"dataset": "chats", "attack": "dtba", "defense": name} for name in ("internal", "internal_ties"))
    reviews = {"dataset": "reviews", "attack": "badnets", "defense": "internal"}
    expected = [
        CurvePoint(model="tiny_llama", seed=0, share=share, **cell)
        for cell in (reviews, chats, ties)
        for share in (0.2, 0.4)
    ]
    assert curve_points(config, grid) == expected
    # The config's own share is the cell's.
    assert own_points(config, grid) == [point for point in expected if point.share == 0.2]


def test_a_curve_has_no_point_where_the_grid_has_no_cell():
    curve = {"defenses": ["conflict"], "shares": [1.0, 0.1]}
    config, grid = tiny(clean_share_curve=curve, seeds=[3, 1])
    found = curve_points(config, grid)
    cells = [cell for cell in grid.cells if cell.defense == "conflict"]
    assert len(found) == 2 * len(cells)
    # In the order of the grid, at rising shares.
    assert [(point.model, point.attack, point.seed, point.share) for point in found] == [
        (cell.model, cell.attack, cell.seed, share) for cell in cells for share in (0.1, 1.0)
    ]


def test_direct_questions():
    config, grid = tiny(
        direct={
            "one": {
                "provider": {"kind": "recorded", "path": "x.jsonl"},
                "datasets": ["reviews", "chats"],
                "attacks": ["cba", "dtba"],
                "runs": 2,
            }
        }
    )
    found = direct_questions(config, grid)
    # An attack is asked on the data set that it is for.
    assert [(asked.dataset, asked.attack, asked.run) for asked in found] == [
        *(("reviews", None, run) for run in (0, 1)),
        *(("reviews", "cba", run) for run in (0, 1)),
        *(("chats", None, run) for run in (0, 1)),
        *(("chats", "dtba", run) for run in (0, 1)),
    ]
    assert [asked.asked for asked in found[1:3]] == ["clean", "cba.triggered"]
    assert found[0] == DirectQuestions(direct="one", dataset="reviews", attack=None, run=0, seed=0)


def test_roles_are_for_attacks_by_rows_alone():
    config, grid = tiny(role_swap={"merges": ["linear", "ties"], "models": ["tiny_llama"]})
    found = role_merges(config, grid)
    # Neither edits nor conversations, nor attacks with a tuning or a later step of their own.
    assert list(dict.fromkeys(merge.attack for merge in found)) == ["cba", "badnets"]
    assert found[:4] == [
        RoleMerge(model="tiny_llama", dataset="reviews", attack="cba", merge=merge, experiment=experiment, seed=0)
        for merge, experiment in (("linear", "ours"), ("linear", "1"), ("linear", "2"), ("ties", "ours"))
    ]
    assert len(found) == 2 * 2 * 3
    # Nor an attack that plants nothing.
    attacks = {name: spec_of(attack) for name, attack in config.attacks.items()}
    attacks["badnets"]["poisoning_rate"] = 0
    config, grid = tiny(role_swap={"merges": ["linear"], "models": ["tiny_llama"]}, attacks=attacks)
    assert {merge.attack for merge in role_merges(config, grid)} == {"cba"}


def test_without_a_section_nothing_is_asked():
    config, grid = tiny(clean_share_curve={}, direct={}, role_swap={})
    assert curve_points(config, grid) == direct_questions(config, grid) == role_merges(config, grid) == []


@pytest.mark.parametrize(("share", "name"), [(0.05, "0.05"), (1.0, "1"), (0.5, "0.5"), (1 / 3, "0.333333")])
def test_a_share_in_a_path(share, name):
    assert share_name(share) == name


def possible_cells(name: str) -> list[tuple[str, str, str, str]]:
    """Return the cells of a preset with all that waits for a later version counted in."""
    config = read_config(CONFIG / name)
    grid = build_grid(config)
    waiting = [out for out in grid.excluded if "later version" in out.reason]
    ready = [cell for cell in grid.cells if cell.seed == config.seeds[0]]
    return [(cell.model, cell.dataset, cell.attack, cell.defense) for cell in (*ready, *waiting)]


def test_the_papers_grid_stays_under_ten_thousand_jobs():
    config = read_config(CONFIG / "paper.yaml")
    cells = possible_cells("paper.yaml")
    trials = {cell[:3] for cell in cells}
    chats = [cell for cell in cells if cell[1] == "chat_backdoor"]
    # Each cell is answered and, most of the time, made by a job of its own; conversations are judged, too. Each trial has
    # up to seven controls, its attack, its figures and the sweeps of four merges.
    bound = 2 * len(cells) + len(chats) + (7 + 2 + 1 + 4) * len(trials)
    # Each point of a curve has a conflict model, a merge and answers; the rest is few.
    experiments = 4 * len(own_points(config, build_grid(config))) + 300
    assert len(config.seeds) * bound + experiments < 10_000
    assert {defense for *_, defense in cells} == {*config.grid.defenses}
    # Every table of the paper has its cells, also those that wait for a method.
    paper = {"none", "editing", "wanda", "ft_full", "fine_pruning", "speculative", "nad", "beear"}
    for model in config.grid.models:
        for dataset, attack in [
            *(
                (dataset, attack)
                for dataset in ("sst2", "emotion")
                for attack in ("cba", "badedit", "rome", "memit", "lwp")
            ),
            *(("chat_backdoor", attack) for attack in ("dtba", "autopoison", "vpi")),
        ]:
            own = "conflict_rewritten" if dataset == "chat_backdoor" else "conflict"
            assert paper | {own} <= {cell[3] for cell in cells if cell[:3] == (model, dataset, attack)}
        assert (model, "emotion", "adaptive_cba", "conflict") in cells


@pytest.mark.parametrize("name", ["paper.yaml", "smol.yaml"])
def test_presets_have_every_defense(name):
    wanted = """none editing editing_oracle wanda ft_full ft_10 fine_pruning nad speculative cleangen beear internal external
        conflict fine_mixing merge_with_base quantize_8 quantize_4 crow onion"""
    config = read_config(CONFIG / name)
    assert set(wanted.split()) <= set(config.grid.defenses)
    assert {config.merges[entry.merge].method for entry in config.defenses.values() if entry.method == "internal"} == {
        *("linear", "slerp", "ties", "passthrough")
    }
    assert {1.0, 0.5, 0.2, 0.1, 0.05} == set(config.clean_share_curve.shares)
    assert config.role_swap.merges
    assert config.direct


def test_smol_is_as_the_trials_of_the_attacks():
    smol, attacks = (read_config(CONFIG / name) for name in ("smol.yaml", "attacks.yaml"))
    assert smol.datasets["sst2"] == attacks.datasets["sst2"]
    assert smol.training.backdoored.rows_of("sst2") == attacks.training.backdoored.rows_of("sst2") == 280
    assert smol.training.conflict == attacks.training.conflict
    chat = read_config(CONFIG / "attacks_chat.yaml")
    assert smol.datasets["alpaca"] == chat.datasets["alpaca"]
    for name in ("dtba", "autopoison", "vpi"):
        assert smol.attacks[name] == chat.attacks[name]
