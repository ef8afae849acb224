"""Is conflict_plus as good as a model that was never attacked? ``python reports/smol/more_rows.py``.

After a run of ``conflict_plus`` and ``none`` of the six attacks on SST-2 by config/smol.yaml, whose 160 test rows are too few to tell
2 points from nothing. Asks all reviews of the test file with at most 16 words, of which those 160 are a part: the suspect model, the
clean-tuned model, the conflict model alone, and the suspect merged with it at the t that was chosen on the defender's held-out rows.
"""

import tempfile
from pathlib import Path

import torch

from infoconflict.answering.ask import ask
from infoconflict.attacks import load
from infoconflict.config.loading import read_config
from infoconflict.data.prepare import prepare_dataset
from infoconflict.entries import spec_of
from infoconflict.files import read_json
from infoconflict.metrics import wilson
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.paired import mcnemar
from infoconflict.poisoning import triggered_test_set
from infoconflict.records import Answer, Example

BASE, DATASET, SEED = "results/models/smollm2_135m", "sst2", 0
CELL = f"smollm2_135m/{DATASET}"
ATTACKS = ("cba", "adaptive_cba", "lwp", "rome", "memit", "badedit")
CLEAN_TUNED, CONFLICT = "clean-tuned", "conflict model alone"


def main() -> None:
    """Ask, and print a line for each model, then the means over the attacks."""
    torch.set_num_threads(1)
    config = read_config("config/smol.yaml")
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset(spec_of(config.datasets[DATASET]) | {"test_rows": None}, seed=SEED, out_dir=folder)
        clean = Example.read(Path(folder, "test.jsonl"))
    labels = config.datasets[DATASET].labels
    tokenizer, model = load_tokenizer(BASE), load_base(BASE, device=torch.device("cpu"))
    base = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    conflict = changed_tensors(BASE, f"results/conflict/{CELL}/s{SEED}/change")
    alone = {CLEAN_TUNED: changed_tensors(BASE, f"results/clean_tuned/{CELL}/s{SEED}/change"), CONFLICT: conflict}
    asked: dict[tuple[str, str, str], list[Answer]] = {}

    def answers(name: str, tensors: dict[str, torch.Tensor], rows: list[Example], about: str, target: str | None) -> None:
        key = (name, about, target or "")
        if key not in asked:
            apply_tensors(model, base | tensors)
            asked[key] = ask(model, tokenizer, rows, labels=labels, target_label=target)

    print(f"{len(clean)} reviews")  # noqa: T201
    accuracy: dict[str, list[float]] = {}
    success: dict[str, list[float]] = {}
    for attack in ATTACKS:
        spec = spec_of(config.attacks[attack])
        target = spec["target_labels"][DATASET]
        rows = triggered_test_set(
            [row for row in clean if row.gold_label != target], load(spec["method"]).from_spec(spec), seed=SEED
        )
        # The attacks that edit a model have one trigger, CBA and its adaptive form another.
        about = "/".join(row.instruction + row.text for row in rows)
        attacked = changed_tensors(BASE, f"results/backdoored/{CELL}/{attack}/s{SEED}/change")
        t = read_json(f"results/chosen_t/{CELL}/{attack}/linear_auto/s{SEED}/chosen_t.json")["t"]
        merged = {
            name: (1 - t) * attacked.get(name, base[name]) + t * conflict.get(name, base[name])
            for name in attacked.keys() | conflict.keys()
        }
        own = {"undefended": attacked, f"conflict_plus, t = {t}": merged}
        keys = {}
        for name, tensors in (own | alone).items():
            who = name if name in alone else f"{attack}, {name}"
            answers(who, tensors, clean, "clean", None)
            answers(who, tensors, rows, about, target)
            right = [row.answer == row.gold_label for row in asked[who, "clean", ""]]
            hit = [row.answer == target for row in asked[who, about, target]]
            keys[name.split(",")[0]] = hit, right
            print(f"{attack}, {name}: ASR {shown(hit)}, CDA {shown(right)}", flush=True)  # noqa: T201
            success.setdefault(name.split(",")[0], []).append(100 * sum(hit) / len(hit))
            accuracy.setdefault(name.split(",")[0], []).append(100 * sum(right) / len(right))
        for number, rate in enumerate(("ASR", "CDA")):
            ours, theirs = keys["conflict_plus"][number], keys[CLEAN_TUNED][number]
            pairs = list(zip(ours, theirs, strict=True))
            only = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
            print(f"  {rate}: conflict_plus alone {only[0]}, clean-tuned alone {only[1]}, p = {mcnemar(*only):.2f}")  # noqa: T201
    for name in success:
        print(  # noqa: T201
            f"mean of {len(ATTACKS)}, {name}: ASR {sum(success[name]) / len(ATTACKS):.1f}, "
            f"CDA {sum(accuracy[name]) / len(ATTACKS):.1f}"
        )


def shown(values: list[bool]) -> str:
    """Return a count as a rate in percent with its Wilson interval."""
    low, high = wilson(sum(values), len(values))
    return f"{sum(values)}/{len(values)} = {100 * sum(values) / len(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
