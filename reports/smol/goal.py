"""Is conflict_plus as good as a model that was never attacked? ``python reports/smol/goal.py [LEAST MOST] > goal.csv``.

After a run of ``none`` and ``conflict_plus`` of the six attacks on SST-2, and of their clean-tuned model, by config/smol.yaml. A
table of that run cannot tell 2 points from nothing: it has 160 rows, and one draw of each tuned model. Here all reviews of the
test file with at most 16 words are asked, of which those 160 are a part (or all with LEAST to MOST words), and the conflict
model and the clean-tuned model are tuned with three seeds each. For each suspect and each conflict model t is chosen on the
defender's held-out rows, by each rule.
"""

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from draws import BASE, CELL, DATASET, SHARE, Tensors, draws_of

from infoconflict.answering.ask import ask
from infoconflict.attacks import load
from infoconflict.config.loading import read_config
from infoconflict.data.prepare import prepare_dataset
from infoconflict.entries import spec_of
from infoconflict.merging.choose_t import RULES, choose_t
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.poisoning import triggered_test_set
from infoconflict.records import Example

ATTACKS = ("cba", "adaptive_cba", "lwp", "rome", "memit", "badedit")


def main() -> None:
    """Tune and ask; print a line for each model, then the means over attacks and draws."""
    torch.set_num_threads(1)
    least, most = map(int, sys.argv[1:] or (1, 16))
    config = read_config("config/smol.yaml")
    labels = config.datasets[DATASET].labels
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset(
            spec_of(config.datasets[DATASET]) | {"test_rows": None, "max_words": most}, seed=0, out_dir=folder
        )
        clean = [row for row in Example.read(Path(folder, "test.jsonl")) if len(row.text.split()) >= least]
    held_out = Example.read(f"{SHARE}/holdout.jsonl")
    conflicts = draws_of("conflict", f"{SHARE}/train.jsonl", None)
    clean_tuned = draws_of(
        "clean_tuned", f"results/data/{DATASET}/s0/train.jsonl", config.training.backdoored.rows_of(DATASET)
    )
    tokenizer, model = load_tokenizer(BASE), load_base(BASE, device=torch.device("cpu"))
    base = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

    def found(tensors: Tensors, rows: list[Example], target: str | None = None) -> list[bool]:
        apply_tensors(model, base | tensors)
        answers = ask(model, tokenizer, rows, labels=labels, target_label=target)
        return [answer.answer == (target or answer.gold_label) for answer in answers]

    def merged(suspect: Tensors, conflict: Tensors, t: float) -> Tensors:
        names = suspect.keys() | conflict.keys()
        return {name: (1 - t) * suspect.get(name, base[name]) + t * conflict.get(name, base[name]) for name in names}

    success, accuracy = defaultdict(list), defaultdict(list)

    def say(attack: str, who: str, seed: int, t: float | str, hit: list[bool], right: list[bool]) -> None:
        success[who].append(100 * mean(hit))
        accuracy[who].append(100 * mean(right))
        print(f"{attack},{who},{seed},{t},{sum(hit)},{len(hit)},{sum(right)},{len(right)}", flush=True)  # noqa: T201

    right_of_clean_tuned = [found(tensors, clean) for tensors in clean_tuned]
    hits_of_clean_tuned: dict[tuple[str, ...], list[list[bool]]] = {}
    print("attack,model,seed,t,hits,triggered,right,clean")  # noqa: T201
    for attack, spec in ((name, spec_of(config.attacks[name])) for name in ATTACKS):
        target = spec["target_labels"][DATASET]
        others = [row for row in clean if row.gold_label != target]
        rows = triggered_test_set(others, load(spec["method"]).from_spec(spec), seed=0)
        suspect = changed_tensors(BASE, f"results/backdoored/{CELL}/{attack}/s0/change")
        say(attack, "undefended", 0, "", found(suspect, rows, target), found(suspect, clean))
        # Attacks with one trigger ask the clean-tuned model the same.
        asked = tuple(row.instruction + row.text for row in rows)
        if asked not in hits_of_clean_tuned:
            hits_of_clean_tuned[asked] = [found(tensors, rows, target) for tensors in clean_tuned]
        for seed, conflict in enumerate(conflicts):
            say(attack, "clean-tuned", seed, "", hits_of_clean_tuned[asked][seed], right_of_clean_tuned[seed])
            right = {t: found(merged(suspect, conflict, t), held_out) for t in config.choose_t.candidates}
            measured: dict[float, tuple[list[bool], list[bool]]] = {}
            for rule in RULES:
                t = choose_t(right.__getitem__, list(right), rule=rule)["t"]
                if t not in measured:
                    purified = merged(suspect, conflict, t)
                    measured[t] = found(purified, rows, target), found(purified, clean)
                say(attack, rule, seed, t, *measured[t])
    for who in success:
        print(f"# {who}: mean ASR {mean(success[who]):.1f}, mean CDA {mean(accuracy[who]):.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
