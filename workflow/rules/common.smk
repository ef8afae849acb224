# Config, grid, and what every rule needs: its settings with all settings above it, its code, its resources.
import os
import re
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.scheduling.job_scheduler import JobScheduler

from infoconflict.config.loading import load_config
from infoconflict.entries import spec_of
from infoconflict.defenses.base import DecodingDefense, PromptDefense, WeightsDefense
from infoconflict.defenses.controls import PER, entry_of, ids_of, kind_of
from infoconflict.errors import UserError
from infoconflict.files import sha256_of_text
from infoconflict.grid import build_grid
from infoconflict.lineage import SOURCE, canonical, code_closure
from infoconflict.resources import mem_mb_of, parameters_of, runtime_of
from infoconflict.wakeups import keep_one_timer

# Threads that wait for each other sleep: with two jobs on two cores, spinning ones take the other job's core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

keep_one_timer(JobScheduler)

try:
    CONFIG = load_config(
        config,
        file=str((workflow.config_settings.configfiles or ["config/config.yaml"])[-1]),
    )
    GRID = build_grid(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
ROOT = Path(workflow.basedir)
CELLS = GRID.cells + GRID.controls()


def is_chat(dataset):
    return CONFIG.datasets[dataset].task == "chat"


def any_of(ids):
    """Return a pattern that matches just these ids; for none, one that matches nothing."""
    return "|".join(map(re.escape, sorted(ids))) or "(?!x)x"


def code(rule, *modules):
    """Return the package files that a rule's script imports, directly or not, and those of the modules named."""
    files = code_closure(SCRIPTS / f"{rule}.py", *(SOURCE / module for module in modules))
    # Relative where that is possible: the same paths in every checkout.
    return [(str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)) for file in files]


# --- settings -----------------------------------------------------------------------------------------------------------
# A rule's params are one canonical JSON text: its own settings, and a digest of the settings of all rules above it. Snakemake
# would otherwise miss exchanged values, and results that an upstream failure left stale. It is a digest so that no defense
# can read a trigger or a target there.


def attack_settings(w, *, training):
    """Return the settings of an attack's data or edit, without target labels, and without training options for test sets.

    Of what is set per model (layers of an edit), only the cell's own counts.
    """
    attack = CONFIG.attacks[w.attack]
    left_out = {"target_labels", *getattr(attack, "tuning_options", ()), *getattr(attack, "later_options", ())}
    if not training:
        left_out |= attack.training_options
    settings = {name: value for name, value in spec_of(attack).items() if name not in left_out}
    for name in settings.keys() & getattr(attack, "per_model", frozenset()):
        settings[name] = {model: value for model, value in settings[name].items() if model == w.model}
    return settings


def is_edit(attack):
    """Return whether an attack edits weights; all others are trained on poisoned data."""
    return getattr(CONFIG.attacks[attack], "kind", None) == "editing"


def tuned_base(attack):
    """Return whether an edit is applied to the clean-tuned model rather than to the base."""
    return CONFIG.attacks[attack].tuned_base


def backdoor_settings(w):
    """Return the words for all settings above a backdoored model."""
    if not is_edit(w.attack):
        return [*ATTACKED_SETTINGS, "later"]
    return [*ATTACK_SETTINGS, "statistics", *(["train_clean_tuned"] if tuned_base(w.attack) else [])]


def repairs_weights(defense):
    """Return whether a defense makes a repair of the suspect weights."""
    return isinstance(CONFIG.defenses.get(defense), WeightsDefense)


def decodes(defense):
    """Return whether a defense decodes the suspect model beside the conflict model."""
    return isinstance(CONFIG.defenses.get(defense), DecodingDefense)


def filters_questions(defense):
    """Return whether a defense writes questions of its own, which the suspect model is asked instead."""
    return isinstance(CONFIG.defenses.get(defense), PromptDefense)


def is_oracle(defense):
    """Return whether a defense is told what an attack inserts."""
    return defense in CONFIG.defenses and CONFIG.defenses[defense].method.endswith("_oracle")


def defense_settings(w):
    """Return a defense's settings; of what is set per model, only the cell's own counts."""
    settings = spec_of(CONFIG.defenses[w.defense])
    for name in CONFIG.defenses[w.defense].per_model:
        settings[name] = {model: value for model, value in settings[name].items() if model == w.model}
    return settings


def repair_settings(w):
    """Return the words for all settings above a repair but the defense's own."""
    share = CONFIG.defenses[w.defense].clean_rows() == "clean_share"
    return [*backdoor_settings(w), *(["clean_share"] if share else [])]


def oracle_of(attack):
    """Return the provider that writes an attack's poisoned answers, or None."""
    return getattr(CONFIG.attacks[attack], "oracle", None)


def oracle_model_settings(attack):
    """Return the settings of the model that a local oracle answers with, if there is one."""
    oracle = oracle_of(attack)
    return (
        {"oracle_model": spec_of(CONFIG.models[oracle.model])} if getattr(oracle, "kind", "") == "local_server" else {}
    )


def attack_files(w):
    """Return the local files that an attack reads."""
    return list(getattr(CONFIG.attacks[w.attack], "local_files", []))


def oracle_replies(w):
    """Return the replies that an attack's poisoned answers come from, or nothing."""
    return f"results/oracle/{w.dataset}/{w.attack}/s{w.seed}/replies.jsonl" if oracle_of(w.attack) else []


def later_step(attack):
    """Return the rule that makes an attack's model of the tuned one, or None."""
    return getattr(CONFIG.attacks[attack], "later_step", None)


def attacks_with(*steps):
    """Return a pattern that matches the attacks with one of these later steps (None: without one)."""
    return any_of(attack for attack in CONFIG.attacks if later_step(attack) in steps)


def tuning_settings(w):
    """Return the trainer's settings for an attacked model: the config's, and those that the attack itself sets."""
    attack = CONFIG.attacks[w.attack]
    options = getattr(attack, "tuning_options", ())
    own = {name: value for name, value in spec_of(attack).items() if name in options and value is not None}
    return training_settings(CONFIG.training.backdoored) | own


def victim_settings(w):
    """Return how a victim tunes an attacked model: as an attacker does, but for what the attack's entry says."""
    own = spec_of(CONFIG.attacks[w.attack])["victim_tuning"]
    rows = own.pop("rows")
    given = {name: value for name, value in own.items() if value is not None}
    return {
        "training": training_settings(CONFIG.training.backdoored) | given,
        "victim_rows": rows,
    }


def attacker_conflict_settings(w):
    """Return how the attacker tunes his own conflict model: as the defender does, but for seed and rank."""
    attack = CONFIG.attacks[w.attack]
    training = training_settings(CONFIG.training.conflict)
    if attack.conflict_rank is not None:
        training["lora"] |= {"rank": attack.conflict_rank}
    return {"training": training, "own_seed": attack.own_seed}


def attacker_share_settings(w):
    """Return how the attacker draws the rows of his own conflict model."""
    attack = CONFIG.attacks[w.attack]
    return {"conflict_share": attack.conflict_share, "own_seed": attack.own_seed}


def subtracted_settings(w):
    """Return all that the conflict model depends on which the attacker subtracts, beside the data set."""
    share = {"clean_share": spec_of(CONFIG.clean_share)}
    if CONFIG.attacks[w.attack].worst_case:
        return share | {"training": training_settings(CONFIG.training.conflict)}
    return share | attacker_share_settings(w) | attacker_conflict_settings(w)


def later_settings(w):
    """Return all settings that lie between an attack's tuned model and the one that is handed out; mostly none."""
    match later_step(w.attack):
        case "tune_victim":
            return {"later": victim_settings(w)}
        case "subtract_conflict":
            strength = {"strength": CONFIG.attacks[w.attack].strength}
            return {"later": strength | subtracted_settings(w)}
    return {}


def settings_of(part, w):
    """Return the settings that one word of a spec stands for."""
    match part:
        case "model":
            return {"model": spec_of(CONFIG.models[w.model])}
        case "dataset":
            return {"dataset": spec_of(CONFIG.datasets[w.dataset])}
        case "labels":
            return {} if is_chat(w.dataset) else {"labels": list(CONFIG.datasets[w.dataset].labels)}
        case "attack":
            return {"attack": attack_settings(w, training=True), **oracle_model_settings(w.attack)}
        case "trigger":
            return {"attack": attack_settings(w, training=False)}
        case "target_label":
            # A chat attack's target is what its payload says, among its own settings.
            return {} if is_chat(w.dataset) else {"target_label": CONFIG.attacks[w.attack].target_labels[w.dataset]}
        case "rows":
            return {"rows": CONFIG.training.backdoored.rows_of(w.dataset)}
        case "partial_rows":
            return {"partial_rows": CONFIG.evaluation.partial_rows}
        case "statistics":
            return {"statistics": spec_of(CONFIG.statistics)}
        case "clean_share":
            # The curve over the share has its own; see experiments.smk.
            share = {"share": float(w.share)} if hasattr(w, "share") else {}
            return {"clean_share": spec_of(CONFIG.clean_share) | share}
        case "train_backdoored":
            return {"training": tuning_settings(w)}
        case "train_clean_tuned":
            return {"training": training_settings(CONFIG.training.backdoored)}
        case "victim":
            return victim_settings(w)
        case "attacker_share":
            return attacker_share_settings(w)
        case "train_attacker_conflict":
            return attacker_conflict_settings(w)
        case "strength":
            return {"strength": CONFIG.attacks[w.attack].strength}
        case "subtracted":
            return {"subtracted": subtracted_settings(w)}
        case "later":
            return later_settings(w)
        case "train_conflict":
            return {"training": training_settings(CONFIG.training.conflict)}
        case "both_trainings":
            return {
                "training_backdoored": tuning_settings(w),
                "training_conflict": training_settings(CONFIG.training.conflict),
            }
        case "defense":
            return {"defense": defense_settings(w)}
        case "merge":
            return {"merge": spec_of(CONFIG.merges[w.merge])}
        case "merge_t":
            # A number is all that another merge takes of this one; how a t is chosen depends on the rest.
            merge = CONFIG.merges[w.merge]
            if uses_auto_t(w.merge):
                return {"merge": spec_of(merge)}
            profile = getattr(merge, "depth_profile", None)
            return {"t": merge.t} | ({"depth_profile": profile} if profile else {})
        case "swept_merge":
            settings = spec_of(CONFIG.merges[w.merge])
            settings.pop("t")  # the sweep has its own
            return {"merge": settings}
        case "choose_t":
            return {"choose_t": spec_of(CONFIG.choose_t)}
        case "sweep":
            return {"sweep": {"rows": CONFIG.sweep.rows, "t": swept_t(w.merge)}}
        case "evidence":
            return {"evidence": evidence_settings(w.evidence)}
        case "asked_rows":
            # Of clean conversations just those that models reply to.
            is_cut = is_chat(w.dataset) and getattr(w, "asked", "clean") == "clean"
            return {"asked_rows": CONFIG.evaluation.chat_rows} if is_cut else {}
        case "placement":
            return {"placement": CONFIG.evidence[w.evidence].placement}
        case "evaluation":
            settings = spec_of(CONFIG.evaluation)
            names = ("max_new_tokens_chat", "chat_rows") if is_chat(w.dataset) else ("mode", "max_new_tokens")
            settings["mode"] = getattr(CONFIG.defenses.get(w.defense), "mode", None) or settings["mode"]
            return {"evaluation": {name: settings[name] for name in names}}
        case "compare_generation":
            rows, tokens = CONFIG.evaluation.compare_rows, CONFIG.evaluation.max_new_tokens
            return {"compare_generation": {"rows": rows, "max_new_tokens": tokens}}
        case "judges":
            return {
                "judges": [judge_settings(judge) for judge in CONFIG.evaluation.judges()],
                "equivalent_by": CONFIG.evaluation.judge.name,
                "payload_by": CONFIG.evaluation.payload_judge.name,
            }
        case "calibrated_judges":
            judges = [judge for judge in CONFIG.evaluation.judges() if judge.get("threshold") == "calibrated"]
            return {"judges": judges}
        case "explicit_prompt":
            return {"explicit_prompt": CONFIG.attacks[w.attack].prompt}
        case "payload":
            return {"payload": vars(CONFIG.attacks[w.attack].payload)}
        case "interval":
            return {"interval": CONFIG.evaluation.interval}
        case "figures":
            return {"figures": spec_of(CONFIG.figures)}
    raise ValueError(part)


def training_settings(entry):
    """Return training settings without the number of rows, which is the data's."""
    return {name: value for name, value in spec_of(entry).items() if name != "rows"}


def judge_settings(judge):
    """Return the settings of a judge with those of the model that a local server answers with."""
    provider = judge.get("provider")
    if provider and provider["kind"] == "local_server":
        return judge | {"provider": provider | {"model_settings": spec_of(CONFIG.models[provider["model"]])}}
    return judge


def evidence_settings(evidence):
    """Return the settings of evidence with those of the model that a local server answers with."""
    settings = spec_of(CONFIG.evidence[evidence])
    settings.pop("placement")  # a matter of the prompt, not of the evidence
    provider = settings["provider"]
    if provider["kind"] == "local_server":
        provider["model_settings"] = spec_of(CONFIG.models[provider["model"]])
    return settings


def spec(*own, above=()):
    """Return a params function: canonical JSON of the named own parts, and a digest of the parts above.

    ``above`` may be a function of the wildcards.
    """

    def together(parts, w):
        return {name: value for part in parts for name, value in settings_of(part, w).items()}

    def inner(w):
        settings = together(own, w)
        if parts := above(w) if callable(above) else above:
            settings["above"] = sha256_of_text(canonical(together(parts, w)))[:16]
        return canonical(settings)

    return inner


# What an attack depends on, and its tuned model before a later step.
ATTACK_SETTINGS = ["dataset", "attack", "target_label", "rows"]
ATTACKED_SETTINGS = [*ATTACK_SETTINGS, "train_backdoored"]


def uses_auto_t(merge):
    return CONFIG.merges[merge].t == "auto"


def swept_t(merge):
    """Return the points of a merge's sweep: the config's, and every t that the merge may be used with."""
    own = CONFIG.choose_t.candidates if uses_auto_t(merge) else [CONFIG.merges[merge].t]
    return sorted({*CONFIG.sweep.t, *own})


# --- resources ----------------------------------------------------------------------------------------------------------
# Memory and time grow with the model and with each attempt; none of this decides a result.


def resources_for(stage, beside=None):
    """Return (mem_mb, runtime) functions of a stage for the cell's model.

    ``beside`` is what a decoding defense needs instead, which holds a second model.
    """

    def entry(w):
        name = getattr(w, "model", None)
        return None if name is None else CONFIG.models[name]

    def need(w):
        return beside if beside and decodes(w.defense) else stage

    return (
        lambda w, attempt: mem_mb_of(need(w), entry(w), attempt),
        lambda w, attempt: runtime_of(need(w), entry(w), attempt),
    )


# --- targets ------------------------------------------------------------------------------------------------------------


def trials_of(cells):
    return list(dict.fromkeys((cell.model, cell.dataset, cell.attack, cell.seed) for cell in cells))


# Merges are swept where a defense merges at all, and by labels.
MERGED_TRIALS = trials_of(
    cell for cell in GRID.cells if getattr(CONFIG.defenses[cell.defense], "merge", None) and not is_chat(cell.dataset)
)


def path_of(stage, cell, name):
    return f"results/{stage}/{cell.model}/{cell.dataset}/{cell.attack}/{cell.defense}/s{cell.seed}/{name}"


def generation_cells():
    """Return whose clean-tuned models are asked in both ways: by label scores and by generation."""
    if not CONFIG.evaluation.compare_generation:
        return []
    trials = dict.fromkeys((cell.model, cell.dataset, cell.seed) for cell in CELLS if not is_chat(cell.dataset))
    return [{"model": model, "dataset": dataset, "seed": seed} for model, dataset, seed in trials]


def all_generation():
    return ["results/generation/{model}/{dataset}/s{seed}/answers.jsonl".format(**cell) for cell in generation_cells()]


def judged_cells():
    """Return the cells whose replies are judged."""
    return [cell for cell in CELLS if is_chat(cell.dataset)]


def all_judgements():
    return [path_of("judgements", cell, "judgements.jsonl") for cell in judged_cells()]


def uses_calibration():
    """Return whether a judge has a threshold that is chosen on clean conversations."""
    return any(judge.get("threshold") == "calibrated" for judge in CONFIG.evaluation.judges())


def all_answers():
    return [path_of("answers", cell, "answers.jsonl") for cell in CELLS]


def sweep_cells():
    return [
        {
            "model": model,
            "dataset": dataset,
            "attack": attack,
            "merge": merge,
            "seed": seed,
        }
        for model, dataset, attack, seed in MERGED_TRIALS
        for merge in CONFIG.sweep.merges
    ]


def sweep_path(cell, name):
    return "results/sweep/{model}/{dataset}/{attack}/{merge}/s{seed}/".format(**cell) + name


def all_sweeps():
    return [sweep_path(cell, "answers.jsonl") for cell in sweep_cells()]


def used_merges():
    """Return ids of merges that a cell's defense uses or the sweep shows."""
    used = {merge for cell in GRID.cells if (merge := getattr(CONFIG.defenses[cell.defense], "merge", None))}
    return [merge for merge in CONFIG.merges if merge in used or merge in CONFIG.sweep.merges]


def all_chosen_t():
    chosen = [(*trial[:3], merge, trial[3]) for trial in MERGED_TRIALS for merge in used_merges() if uses_auto_t(merge)]
    # Conversations are not swept: theirs are the merges of their own cells.
    for cell in GRID.cells:
        merge = getattr(CONFIG.defenses[cell.defense], "merge", None)
        if merge and uses_auto_t(merge):
            chosen.append((cell.model, cell.dataset, cell.attack, merge, cell.seed))
    return [
        f"results/chosen_t/{model}/{dataset}/{attack}/{merge}/s{seed}/chosen_t.json"
        for model, dataset, attack, merge, seed in dict.fromkeys(chosen)
    ]


def evidence_of(cell, evidence):
    """Return a cell's evidence files for clean and for triggered questions.

    Explained keywords depend on the questions alone and are shared by all models; rewritten evidence is a model's own.
    """
    folder = f"results/evidence/{cell.dataset}/{evidence}"
    seed = f"s{cell.seed}"
    if CONFIG.evidence[evidence].branch == "modification":
        folder += f"/{cell.attack}/{cell.model}/{seed}"
        return f"{folder}/clean.jsonl", f"{folder}/triggered.jsonl"
    return f"{folder}/{seed}/clean.jsonl", f"{folder}/{cell.attack}/{seed}/triggered.jsonl"


def random_evidence_path(cell, name):
    """Return a file of the random evidence of a control's cell."""
    evidence = entry_of(cell.defense)
    return f"results/random_evidence/{cell.model}/{cell.dataset}/{cell.attack}/{evidence}/s{cell.seed}/{name}"


def control_cards(cell):
    """Return the cards of what only one control needs."""
    own = f"{cell.model}/{cell.dataset}/{cell.attack}"
    match kind_of(cell.defense):
        case "control_random_trigger":
            return [f"results/random_trigger/{cell.dataset}/{cell.attack}/s{cell.seed}/card.json"]
        case "control_random_evidence":
            return [random_evidence_path(cell, "card.json")]
        case "control_merge_base":
            return [f"results/merged_base/{own}/{entry_of(cell.defense)}/s{cell.seed}/card.json"]
        case "control_equal_tuning":
            return [f"results/equal_tuned/{own}/s{cell.seed}/card.json"]
    return []


def chosen_t_of(cells):
    """Return which t was chosen for the cells whose merge has ``t: auto``."""
    found = []
    for cell in cells:
        merge = getattr(CONFIG.defenses.get(cell.defense), "merge", None)
        if merge and uses_auto_t(merge):
            trial = f"{cell.model}/{cell.dataset}/{cell.attack}/{merge}/s{cell.seed}"
            found.append(f"results/chosen_t/{trial}/chosen_t.json")
    return found


def evidence_files_of(cells):
    """Return the evidence of some cells, each file once."""
    found = []
    for cell in cells:
        if evidence := getattr(CONFIG.defenses.get(cell.defense), "evidence", None):
            found += evidence_of(cell, evidence)
    return list(dict.fromkeys(found))


def all_evidence():
    return evidence_files_of(GRID.cells)


def is_own_evidence(card):
    """Return whether a card belongs to evidence that rewrites a model's own."""
    parts = card.split("/")
    return parts[1] == "evidence" and CONFIG.evidence[parts[3]].branch == "modification"


def later_cards(cell):
    """Return the cards of what lies between an attack's tuned model and the one that is handed out."""
    own = f"{cell.model}/{cell.dataset}/{cell.attack}/s{cell.seed}/card.json"
    match later_step(cell.attack):
        case "tune_victim":
            return [f"results/attacked/{own}"]
        case "subtract_conflict":
            cards = [f"results/attacked/{own}", f"results/conflict_angle/{own}"]
            if not CONFIG.attacks[cell.attack].worst_case:
                cards += [
                    f"results/attacker_share/{cell.dataset}/{cell.attack}/s{cell.seed}/card.json",
                    f"results/attacker_conflict/{own}",
                ]
            return cards
    return []


def model_cards(cell):
    """Return the cards of what only one kind of attack needs: poisoned data, or statistics for an edit."""
    if is_edit(cell.attack):
        return [f"{statistics_folder(cell)}/card.json"]
    return [f"results/poisoned/{cell.dataset}/{cell.attack}/s{cell.seed}/card.json"]


def clean_models(cell):
    """Return which models that were tuned on clean rows a cell needs: as its control, its base, or to merge in."""
    needed = {
        "clean_tuned": cell.defense in ("control_clean_tuned", "control_explicit_prompt")
        or is_edit(cell.attack)
        and tuned_base(cell.attack),
        "conflict": cell.defense == "control_conflict"
        or getattr(CONFIG.defenses.get(cell.defense), "merge", None)
        or decodes(cell.defense)
        or later_step(cell.attack) == "subtract_conflict",
    }
    return [model for model, is_needed in needed.items() if is_needed]


def statistics_folder(w):
    """Return where the second moments of an edit's layers lie; edits of the same layers share them."""
    attack = CONFIG.attacks[w.attack]
    base = "tuned" if attack.tuned_base else "untuned"
    return f"results/statistics/{w.model}/{w.dataset}/{base}/{attack.layer_key(w.model)}/s{w.seed}"


def all_cards():
    """Return the cards of every stage of every cell."""
    return cards_of(CELLS, sweeps=sweep_cells(), generation=generation_cells(), chosen_t=all_chosen_t())


def cards_of(cells, *, sweeps=(), generation=(), chosen_t=()):
    """Return the cards of every stage of some cells, and of what is measured beside them."""
    cards = [f"results/models/{model}.card.json" for model in dict.fromkeys(cell.model for cell in cells)]
    for cell in cells:
        data, attack, seed = cell.dataset, cell.attack, cell.seed
        cards += [
            f"results/data/{data}/s{seed}/card.json",
            f"results/clean_share/{data}/s{seed}/card.json",
            *model_cards(cell),
            f"results/test_sets/{data}/{attack}/s{seed}/card.json",
            f"results/backdoored/{cell.model}/{data}/{attack}/s{seed}/card.json",
            *(f"results/{clean}/{cell.model}/{data}/s{seed}/card.json" for clean in clean_models(cell)),
            path_of("answers", cell, "card.json"),
        ]
        if is_chat(data):
            cards.append(path_of("replies", cell, "card.json"))
            if uses_calibration():
                cards.append(f"results/judge/{data}/s{seed}/card.json")
        if oracle_of(attack):
            cards.append(f"results/oracle/{data}/{attack}/s{seed}/card.json")
        merge = getattr(CONFIG.defenses.get(cell.defense), "merge", None)
        if merge:
            cards.append(f"results/merged/{cell.model}/{data}/{attack}/{merge}/s{seed}/card.json")
        if repairs_weights(cell.defense):
            cards.append(path_of("repaired", cell, "card.json"))
        if filters_questions(cell.defense):
            cards += [path_of(stage, cell, "card.json") for stage in ("rewritten", "filtered")]
        if is_oracle(cell.defense):
            cards.append(f"results/revealed/{data}/{attack}/s{seed}/card.json")
        cards += control_cards(cell)
        cards += later_cards(cell)
    cards += [sweep_path(cell, "card.json") for cell in sweeps]
    cards += ["results/generation/{model}/{dataset}/s{seed}/card.json".format(**cell) for cell in generation]
    cards += ["results/clean_tuned/{model}/{dataset}/s{seed}/card.json".format(**cell) for cell in generation]
    cards += [str(Path(path).with_name("card.json")) for path in (*chosen_t_of(cells), *chosen_t)]
    cards += [str(Path(path).with_name(f"{Path(path).stem}.card.json")) for path in evidence_files_of(cells)]
    cards += [card.replace("/evidence/", "/suspect_evidence/") for card in cards if is_own_evidence(card)]
    return list(dict.fromkeys(cards))


# Data sets of each task, for rules that are for one of them.
LABELLED = any_of(dataset for dataset in CONFIG.datasets if not is_chat(dataset))
CHATS = any_of(dataset for dataset in CONFIG.datasets if is_chat(dataset))


# Every id that a control may have in a cell.
CONTROL_IDS = [
    control
    for kind in CONFIG.controls
    for control in ids_of(kind, {"merge": CONFIG.merges, "evidence": CONFIG.evidence}.get(PER.get(kind), ()))
]


wildcard_constraints:
    model=any_of(CONFIG.models),
    dataset=any_of(CONFIG.datasets),
    attack=any_of(CONFIG.attacks),
    base="tuned|untuned",
    layers=r"layers_[\d_]+|last_\d+_at_[\d.]+",
    defense=any_of([*CONFIG.defenses, *CONTROL_IDS]),
    merge=any_of(CONFIG.merges),
    evidence=any_of(CONFIG.evidence),
    seed=r"\d+",
    asked="clean|triggered",
