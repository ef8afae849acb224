"""The grid: golden lists, reasons, and that no cell is lost."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.attacks.chat import ChatAttack
from infoconflict.config.loading import load_config, read_config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.defenses.controls import CONTROLS, PER
from infoconflict.errors import UserError
from infoconflict.grid import Cell, Excluded, build_grid

CONFIG = Path(__file__).parents[1] / "config"


def cell(text: str) -> Cell:
    model, dataset, attack, defense, seed = text.split()
    return Cell(model=model, dataset=dataset, attack=attack, defense=defense, seed=int(seed))


def variant(name: str, **grid):
    raw = read_yaml(CONFIG / name)
    raw["grid"] |= grid
    return raw


def on_reviews(skip):
    """Return the tiny preset with all attacks on labels, and this skip alone."""
    return variant("tiny.yaml", datasets=["reviews"], attacks=AXES["attack"], defenses=AXES["defense"], skip=skip)


AXES = {
    "model": ["tiny_llama", "tiny_gpt2", "tiny_gptj"],
    "attack": ["cba", "badnets", "lwp", "adaptive_cba", "rome", "memit", "badedit"],
    "defense": ["none", "internal", "internal_ties", "external", "external_rewritten", "conflict"],
}
PLAIN = [control for control in CONTROLS if control not in PER]
CHAT_ATTACKS = ["dtba", "autopoison", "vpi"]


def test_the_demo():
    grid = build_grid(read_config(CONFIG / "config.yaml"))
    assert list(grid.cells) == [
        cell("smollm2_135m film_reviews cba none 0"),
        cell("smollm2_135m film_reviews cba internal 0"),
        cell("smollm2_135m film_reviews cba external 0"),
        cell("smollm2_135m film_reviews cba conflict 0"),
    ]
    assert grid.excluded == ()
    assert list(grid.controls()) == [
        cell("smollm2_135m film_reviews cba control_base 0"),
        cell("smollm2_135m film_reviews cba control_conflict 0"),
        cell("smollm2_135m film_reviews cba control_clean_tuned 0"),
    ]
    raw = read_yaml(CONFIG / "config.yaml")
    del raw["controls"]
    assert list(build_grid(load_config(raw, file="c")).controls())[3:] == [
        cell("smollm2_135m film_reviews cba control_random_trigger 0"),
        cell("smollm2_135m film_reviews cba control_random_evidence_keywords_smollm2 0"),
        cell("smollm2_135m film_reviews cba control_merge_base_linear 0"),
        cell("smollm2_135m film_reviews cba control_equal_tuning 0"),
    ]


def test_the_tiny_grid_has_the_worst_case_of_the_adaptive_attack():
    config = load_config(read_yaml(CONFIG / "tiny.yaml"), file="c")
    worst = [name for name, attack in config.attacks.items() if getattr(attack, "worst_case", False)]
    grid = build_grid(config)
    cells = [(cell.model, cell.defense) for cell in (*grid.cells, *grid.controls()) if cell.attack in worst]
    assert cells == [("tiny_llama", "none"), ("tiny_llama", "internal")]


def test_a_part_of_the_tiny_grid_leaves_out_what_it_skips():
    # The part of the tiny grid that tests plan again and again.
    part = read_yaml(Path(__file__).parent / "workflow/chain.yaml")
    grid = build_grid(load_config(read_yaml(CONFIG / "tiny.yaml") | part, file="c"))
    undefended = {(cell.model, cell.attack) for cell in grid.cells if cell.defense == "none"}
    everywhere = set(itertools.product(AXES["model"], [*AXES["attack"], *CHAT_ATTACKS]))
    assert everywhere - undefended == {("tiny_gpt2", "badnets"), ("tiny_gptj", "badnets")}
    defended = {(cell.model, cell.attack, cell.defense) for cell in grid.cells if cell.defense != "none"}
    assert defended == {
        *itertools.product(AXES["model"], ["cba"], ["internal", "external", "conflict"]),
        *itertools.product(["tiny_llama"], ["badnets"], ["internal", "external", "conflict"]),
        ("tiny_llama", "cba", "external_rewritten"),
        ("tiny_llama", "cba", "ft_10"),
        ("tiny_llama", "cba", "internal_depth"),
        ("tiny_llama", "adaptive_cba", "internal"),
        *itertools.product(["tiny_llama"], ["dtba"], ["internal", "internal_ties", "external_rewritten", "conflict"]),
    }
    with_all = {("tiny_llama", "badnets"), *itertools.product(AXES["model"], ["cba"])}
    assert {(cell.model, cell.attack, cell.defense) for cell in grid.controls()} == {
        *(
            (model, attack, control)
            for model, attack in undefended
            for control in CONTROLS[:3]
            if (model, attack) in with_all or (model, control) == ("tiny_llama", "control_clean_tuned")
        ),
        *itertools.product(["tiny_llama"], ["cba"], ["control_random_trigger", "control_equal_tuning"]),
        *(("tiny_llama", "cba", f"control_merge_base_{merge}") for merge in ("linear", "linear_depth", "ties")),
        *(
            ("tiny_llama", "cba", f"control_random_evidence_{evidence}")
            for evidence in ("recorded_keywords", "rewritten", "served_keywords")
        ),
        ("tiny_llama", "dtba", "control_random_evidence_rewritten"),
        ("tiny_llama", "vpi", "control_explicit_prompt"),
    }
    reasons = {
        (out.model, out.attack): out.reason
        for out in grid.excluded
        if (out.dataset, out.defense) == ("reviews", "none") and out.attack not in CHAT_ATTACKS
    }
    assert set(reasons) == {("tiny_gpt2", "badnets"), ("tiny_gptj", "badnets")}
    assert set(reasons.values()) == {"one architecture is enough to test badnets here"}


def test_the_paper_says_which_cells_it_leaves_out():
    config = read_config(CONFIG / "paper.yaml")
    grid = build_grid(config)
    chat_attacks = {name for name in config.grid.attacks if config.attacks[name].task == "chat"}
    assert {cell.attack for cell in grid.cells} == set(config.grid.attacks)
    assert {cell.defense for cell in grid.cells} == set(config.grid.defenses)
    assert {cell.attack for cell in grid.cells if cell.dataset == "chat_backdoor"} == chat_attacks
    # No method waits for a later version.
    assert not [out for out in grid.excluded if "arrives" in out.reason]
    reasons = {(out.dataset, out.attack, out.defense): out.reason for out in grid.excluded if out.model == "llama"}
    assert reasons["sst2", "dtba", "none"] == "the attack dtba is for chat, the data set sst2 for classification"
    assert (
        reasons["chat_backdoor", "cba", "none"]
        == "the attack cba is for classification, the data set chat_backdoor for chat"
    )
    # Chat attacks have no words that random ones could take the place of; what is near their triggers is asked about instead.
    said = "the attack {} has no words as trigger that others could take the place of{}"
    stand_ins = {
        "vpi": "; its partial triggers stand in for them: contrast",
        "dtba": "; its partial triggers stand in for them: a_first, a_only, b_only, b_then_a",
        "autopoison": "",
    }
    for attack, stand_in in stand_ins.items():
        assert reasons["chat_backdoor", attack, "control_random_trigger"] == said.format(attack, stand_in)
    crossed = 4 * 3 * len(config.grid.attacks) * len(config.grid.defenses)
    controls = [out for out in grid.excluded if out.defense.startswith("control_")]
    assert len(grid.cells) / 3 + len(grid.excluded) - len(controls) == crossed


def test_the_authors_reason_comes_first():
    skip = [{"attack": "rome", "dataset": "sst2", "reason": "not of interest"}]
    grid = build_grid(load_config(variant("paper.yaml", skip=skip), file="c"))
    assert {out.reason for out in grid.excluded if (out.attack, out.dataset) == ("rome", "sst2")} == {"not of interest"}


def test_a_skip_needs_all_its_ids_to_match():
    skip = [{"model": "tiny_llama", "defense": "internal", "reason": "r"}]
    grid = build_grid(load_config(on_reviews(skip), file="c"))
    assert {(out.model, out.defense) for out in grid.excluded} == {("tiny_llama", "internal")}
    assert len(grid.excluded) == len(AXES["attack"])


def test_a_skip_with_lists_leaves_out_each_of_them():
    lists = [{"model": ["tiny_gpt2", "tiny_gptj"], "attack": ["cba", "lwp"], "defense": ["external"], "reason": "r"}]
    single = [
        {"model": model, "attack": attack, "defense": "external", "reason": "r"}
        for model in ("tiny_gpt2", "tiny_gptj")
        for attack in ("cba", "lwp")
    ]
    assert build_grid(load_config(on_reviews(lists), file="c")) == build_grid(load_config(on_reviews(single), file="c"))


def test_a_control_is_left_out_by_name_with_a_reason():
    skip = [
        {"attack": ["cba", "lwp"], "defense": ["control_base", "none"], "reason": "r"},
        {"model": "tiny_llama", "attack": "rome", "reason": "out"},
        {"attack": "rome", "defense": "control_base", "reason": "without base"},
    ]
    grid = build_grid(load_config(on_reviews(skip), file="c"))
    without_base = set(itertools.product(AXES["model"], ["cba", "lwp", "rome"]))
    assert {(cell.model, cell.attack) for cell in grid.cells} - {
        (cell.model, cell.attack) for cell in grid.controls() if cell.defense == "control_base"
    } == without_base - {("tiny_llama", "rome")}
    assert {cell.attack for cell in grid.controls() if cell.defense == "control_conflict"} == set(AXES["attack"])
    left_out = {(out.model, out.attack): out.reason for out in grid.excluded if out.defense == "control_base"}
    # Where no cell is left there is nothing to compare, and nothing more to say.
    assert left_out == {
        (model, attack): "without base" if attack == "rome" else "r"
        for model, attack in without_base - {("tiny_llama", "rome")}
    }


def test_cells_follow_the_order_of_the_config():
    raw = variant(
        "tiny.yaml",
        models=["tiny_gptj", "tiny_llama"],
        datasets=["reviews"],
        defenses=["conflict", "none"],
        attacks=["cba"],
        skip=[],
    )
    raw["seeds"] = [2, 0]
    assert list(build_grid(load_config(raw, file="c")).cells) == [
        cell(f"{model} reviews cba {defense} {seed}")
        for model in ("tiny_gptj", "tiny_llama")
        for defense in ("conflict", "none")
        for seed in (2, 0)
    ]


def test_controls_are_asked_for_trials_that_have_cells_only():
    skip = [{"attack": [attack for attack in AXES["attack"] if attack != "cba"], "reason": "r"}]
    grid = build_grid(load_config(on_reviews(skip), file="c"))
    assert {cell.attack for cell in grid.controls()} == {"cba"}


def test_no_cell_left():
    skip = [{"dataset": "reviews", "reason": "too short"}]
    with pytest.raises(UserError) as caught:
        build_grid(load_config(on_reviews(skip), file="c"))
    assert str(caught.value) == (
        "grid of 'tiny': no cell is left, the first is out because too short; "
        "name other models, datasets, attacks or defenses"
    )


def test_an_attack_without_a_target_label_is_left_out_with_a_reason():
    # load_config asks for the label; a config changed in memory may still lack it.
    config = read_config(CONFIG / "tiny.yaml")
    attacks = config.attacks | {"badnets": config.attacks["badnets"].model_copy(update={"target_labels": {}})}
    grid = build_grid(config.model_copy(update={"attacks": attacks}))
    found = {(out.dataset, out.attack, out.defense): out.reason for out in grid.excluded if out.model == "tiny_llama"}
    assert found["reviews", "badnets", "none"] == "the attack badnets has no target label for the data set reviews"


class Toy(ChatAttack):
    method: str = "toy"


def test_what_a_chat_cell_can_be():
    """Classification and chat are never mixed; every defense so far is for both."""
    config = read_config(CONFIG / "tiny.yaml")
    grid_options = config.grid.model_copy(update={"attacks": ["toy", "cba"], "defenses": AXES["defense"], "skip": []})
    attacks = config.attacks | {"toy": Toy(poisoning_rate=0.1)}
    grid = build_grid(config.model_copy(update={"attacks": attacks, "grid": grid_options}))
    on_chats = [cell for cell in grid.cells if cell.dataset == "chats"]
    assert {(cell.model, cell.attack, cell.defense) for cell in on_chats} == {
        (model, "toy", defense) for model in AXES["model"] for defense in AXES["defense"]
    }
    assert {cell.defense for cell in grid.controls() if cell.dataset == "chats"} == {
        *(control for control in PLAIN if control not in ("control_random_trigger", "control_explicit_prompt")),
        *(f"control_merge_base_{merge}" for merge in ("linear", "ties")),
        *(f"control_random_evidence_{name}" for name in ("recorded_keywords", "rewritten", "served_keywords")),
    }
    reasons = {(out.dataset, out.attack, out.defense): out.reason for out in grid.excluded}
    assert reasons["reviews", "toy", "none"] == "the attack toy is for chat, the data set reviews for classification"
    assert reasons["chats", "cba", "none"] == "the attack cba is for classification, the data set chats for chat"


def test_a_prompt_is_written_out_only_where_one_is_hidden():
    grid = build_grid(read_config(CONFIG / "paper.yaml"))
    asked = [cell for cell in grid.controls() if cell.defense == "control_explicit_prompt"]
    assert {(cell.dataset, cell.attack) for cell in asked} == {("chat_backdoor", "vpi")}
    assert len(asked) == 4 * 3
    # It belongs to this attack; of the others it is not left out.
    assert not [out for out in grid.excluded if out.defense == "control_explicit_prompt"]


def with_controls(controls, skip=(), **changed):
    raw = on_reviews(list(skip))
    raw["grid"] |= {"attacks": ["cba"], "models": ["tiny_llama"]}
    raw |= {"controls": controls}
    for section, entries in changed.items():
        raw[section] |= entries
    return build_grid(load_config(raw, file="c"))


def test_the_config_says_which_controls_are_run_and_in_which_order():
    grid = with_controls(["control_equal_tuning", "control_merge_base", "control_base"])
    assert [cell.defense for cell in grid.controls()] == [
        *("control_equal_tuning", "control_merge_base_linear", "control_merge_base_ties", "control_base"),
    ]
    assert with_controls([]).controls() == ()


def test_one_of_a_kind_of_controls_is_left_out_by_its_id_and_all_by_the_kind():
    skip = [
        {"defense": ["control_merge_base_ties", "control_random_evidence"], "reason": "r"},
    ]
    grid = with_controls(["control_merge_base", "control_random_evidence"], skip)
    assert [cell.defense for cell in grid.controls()] == ["control_merge_base_linear"]
    assert {out.defense for out in grid.excluded} == {
        "control_merge_base_ties",
        *(f"control_random_evidence_{name}" for name in ("recorded_keywords", "rewritten", "served_keywords")),
    }


def test_a_model_in_four_bits_is_not_tuned_on_from_its_whole_weights():
    models = {"tiny_llama": {"source": "tiny", "architecture": "llama", "quantization": "nf4"}}
    grid = with_controls(
        ["control_equal_tuning", "control_base"],
        models=models,
        attacks={"lwp": {"method": "lwp", "target_labels": {"reviews": "positive"}, "victim_tuning": None}},
    )
    assert [cell.defense for cell in grid.controls()] == ["control_base"]
    assert [out.reason for out in grid.excluded] == [
        "the model tiny_llama is tuned in 4 bits, and the suspect is tuned on from whole weights"
    ]


# Which of the defenses use the merge or the evidence that a control goes with.
USERS = {
    "control_random_evidence_recorded_keywords": {"external"},
    "control_random_evidence_rewritten": {"external_rewritten"},
    "control_random_evidence_served_keywords": {"conflict"},
    "control_merge_base_linear": {"internal"},
    "control_merge_base_ties": {"internal_ties", "conflict"},
}
# On reviews: no attack there has a prompt to write out.
ALL_CONTROLS = [*(control for control in PLAIN if control != "control_explicit_prompt"), *USERS]


def one_or_more(ids):
    return st.sampled_from(ids) | st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True)


def is_skipped(skip, have):
    listed = [{axis: [one] if isinstance(one, str) else one for axis, one in entry.items()} for entry in skip]
    return any(all(have[axis] in ids for axis, ids in entry.items()) for entry in listed)


@given(
    skip=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "model": one_or_more(AXES["model"]),
                "attack": one_or_more(AXES["attack"]),
                "defense": one_or_more([*AXES["defense"], *CONTROLS, *ALL_CONTROLS]),
            },
        ).filter(bool),
        max_size=4,
    ),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
@settings(deadline=None, max_examples=50)
def test_every_cell_is_run_or_left_out_and_a_plain_loop_agrees(skip, seeds):
    raw = on_reviews([entry | {"reason": "r"} for entry in skip])
    raw["seeds"] = seeds
    cells, excluded, controls, excluded_controls = [], [], [], []
    for model in AXES["model"]:
        for attack in AXES["attack"]:
            for defense in AXES["defense"]:
                have = {"model": model, "attack": attack, "defense": defense}
                if is_skipped(skip, have):
                    excluded.append(Excluded(dataset="reviews", reason="r", **have))
                else:
                    cells += [Cell(dataset="reviews", seed=seed, **have) for seed in seeds]
            there = {cell.defense for cell in cells if (cell.model, cell.attack) == (model, attack)}
            for control in ALL_CONTROLS:
                kind = next(kind for kind in CONTROLS if control.startswith(kind))
                if not there or (control in USERS and not USERS[control] & there):
                    continue
                have = {"model": model, "attack": attack, "defense": control}
                if is_skipped(skip, have) or is_skipped(skip, have | {"defense": kind}):
                    excluded_controls.append(Excluded(dataset="reviews", reason="r", **have))
                else:
                    controls += [Cell(dataset="reviews", seed=seed, **have) for seed in seeds]
    config = load_config(raw, file="c")
    if cells:
        grid = build_grid(config)
        assert list(grid.cells) == cells
        assert sorted(grid.excluded) == sorted(excluded + excluded_controls)
        assert sorted(grid.controls()) == sorted(controls)
    else:
        with pytest.raises(UserError, match="no cell is left"):
            build_grid(config)
