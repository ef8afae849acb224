"""A made-up run with the shape of a real one: answers, sweeps, choices of t, evidence, cards.

The rates are invented; they look like those of a small model so that the pictures can be judged by eye.
"""

import hashlib
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from infoconflict.files import write_json, write_jsonl
from infoconflict.metrics import write_metrics
from infoconflict.paired import write_paired

# ASR, CDA, FTR
RATES = {
    "none": (0.97, 0.84, 0.16),
    "internal": (0.14, 0.83, 0.10),
    "external": (0.88, 0.81, 0.19),
    "conflict": (0.12, 0.82, 0.11),
    "control_base": (0.46, 0.61, 0.44),
    "control_conflict": (0.11, 0.79, 0.12),
    "control_clean_tuned": (0.09, 0.85, 0.10),
}
VARIANTS = ("input_both", "input_own", "instruction_both", "instruction_own", "swapped")
SWEEP_T = (0.3, 0.5, 0.7, 0.8, 0.9)
# Share of the way from the backdoored to the conflict model at t = 0.5: methods differ in how fast they get there.
MERGES = {"linear": 0.42, "slerp": 0.45, "ties": 0.66, "passthrough": 0.30}
CONFIG = {
    "name": "made up",
    "seeds": [0],
    "defenses": {
        "none": {"method": "none"},
        "internal": {"method": "internal", "merge": "linear"},
        "external": {"method": "external", "evidence": "keywords_smollm2"},
        "conflict": {"method": "conflict", "merge": "linear", "evidence": "keywords_smollm2"},
    },
    "attacks": {"cba": {"method": "cba", "note": "<b>&amp;</b> never trust a string"}},
}


def answer_rows(rng, n_rows, rates, *, variants=VARIANTS, t=None):
    asr, cda, ftr = rates
    rows = []
    for number in range(n_rows):
        gold = ("negative", "positive")[number % 2]
        for trigger in ("none", "full", *variants):
            if trigger not in ("none", "full") and number >= 80:
                continue
            says_target = {"none": 1 - cda, "full": asr}.get(trigger, ftr)
            if gold == "positive":
                said = "positive" if rng.random() < cda else "negative"
            else:
                said = "positive" if rng.random() < says_target else "negative"
            if rng.random() < 0.004:
                said = None
            rows.append(
                {
                    "id": f"r{number}",
                    "gold_label": gold,
                    "trigger": trigger,
                    "target_label": None if trigger == "none" else "positive",
                    "answer": said,
                    "scores": {},
                    "t": t,
                }
            )
    return rows


def generation_rows(rng, n_rows):
    """Answers by label scores and by generation that agree in most rows."""
    rows = []
    for number in range(n_rows):
        gold = ("negative", "positive")[number % 2]
        by_scores = gold if rng.random() < 0.85 else "negative"
        by_text = by_scores if rng.random() < 0.9 else rng.choice(["negative", "positive", None])
        scores = {label: -0.1 if label == by_scores else -2.0 for label in ("negative", "positive")}
        row = {"id": f"r{number}", "gold_label": gold, "trigger": "none", "target_label": None, "answer": by_text}
        rows.append(row | {"scores": scores, "generated": by_text or "what"})
    return rows


def verdict_rows(rng, n_rows):
    """Verdicts of two judges that agree in most clean rows, and of one about payloads."""
    rows = []
    for number in range(n_rows):
        match = rng.random() < 0.6
        for judge in ("embedding", "exact"):
            said = match if judge == "embedding" or rng.random() < 0.8 else None if number == 0 else not match
            row = {"id": f"r{number}", "trigger": "none", "judge": judge, "claim": "equivalent", "match": said}
            rows.append(row | {"score": 0.5, "raw": ""})
        row = {"id": f"r{number}", "trigger": "full", "judge": "pattern", "claim": "payload", "match": True}
        rows.append(row | {"score": 1.0, "raw": ""})
    return rows


def make_run(
    root,
    *,
    cases=(("smollm2_135m", "film_reviews", "cba"),),
    seeds=(0,),
    rates=RATES,
    merges=MERGES,
    n_rows=200,
    auto=0.8,
    chat=False,
    left_out=None,
):
    """Write all files of a made-up run below ``root`` and name them; ``left_out`` has defenses by attack."""
    root = Path(root)
    rng = random.Random(11)
    answers, sweeps, chosen, evidence, cards = [], [], [], [], []
    judgements, generation = [], []

    def add_card(stage, cell, *, seconds, memory, tokens=None, stored=10**6, inputs=(), details=None):
        name = "-".join([stage, *(str(value) for value in cell.values())])
        digest = hashlib.sha256(name.encode()).hexdigest()
        card = {
            "stage": stage,
            "cell": cell,
            "spec": {"rows": 600},
            "inputs": {key: hashlib.sha256(key.encode()).hexdigest() for key in inputs},
            "outputs": {"answers" if stage in ("answer", "sweep_merge") else name: digest},
            "rows": {"train": 600},
            "details": details or {},
            "versions": {"infoconflict": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
            "cost": {"seconds": seconds, "peak_memory_bytes": memory, "stored_bytes": stored, "device": "cpu"}
            | ({"tokens": tokens} if tokens else {}),
        }
        path = root / "cards" / f"{name}.card.json"
        write_json(path, card)
        cards.append(path)
        return name

    for case_number, (model, dataset, attack) in enumerate(cases):
        case = {"model": model, "dataset": dataset, "attack": attack}
        for seed in seeds:
            where = "/".join(case.values())
            upstream = []
            for stage, cell, seconds, memory, tokens in [
                ("prepare_dataset", {"dataset": dataset, "seed": seed}, 1.2, 0.2e9, None),
                ("poison_train", {"dataset": dataset, "attack": attack, "seed": seed}, 0.8, 0.2e9, None),
                ("train_backdoored", case | {"seed": seed}, 512.0, 2.9e9, 412_331),
                ("train_clean_tuned", {"model": model, "dataset": dataset, "seed": seed}, 171.0, 2.8e9, 131_002),
                ("train_conflict", {"model": model, "dataset": dataset, "seed": seed}, 28.0, 2.7e9, 20_114),
            ]:
                upstream.append(
                    add_card(stage, cell, seconds=seconds, memory=int(memory), tokens=tokens, inputs=upstream[-1:])
                )
            for defense, (asr, cda, ftr) in rates.items():
                if defense in (left_out or {}).get(attack, ()):
                    continue
                shifted = (min(1.0, asr + 0.01 * case_number), max(0.0, cda - 0.005 * case_number), ftr)
                path = root / "answers" / where / defense / f"s{seed}.jsonl"
                write_jsonl(path, answer_rows(rng, n_rows, shifted))
                cell = case | {"defense": defense, "seed": seed}
                answers.append((cell, path))
                add_card("answer", cell, seconds=31.0, memory=int(1.4e9), tokens=98_000, inputs=upstream[2:])
            for merge, pace in merges.items():
                rows, curve = [], []
                for t in SWEEP_T:
                    way = min(1.0, t**1.5 / (0.5**1.5) * pace)
                    asr = 0.97 - (0.97 - 0.10) * way**0.8
                    cda = 0.84 - 0.05 * way - (0.12 if merge == "passthrough" and 0.3 < t < 0.8 else 0)
                    rows += answer_rows(rng, n_rows // 2, (asr, cda, 0.1), variants=(), t=t)
                    curve.append({"t": t, "hits": round(40 * (cda - 0.02)), "total": 40})
                path = root / "sweep" / where / merge / f"s{seed}.jsonl"
                write_jsonl(path, rows)
                cell = case | {"merge": merge, "seed": seed}
                sweeps.append((cell, path))
                add_card("sweep_merge", cell, seconds=88.0, memory=int(1.9e9), tokens=240_000, inputs=upstream[2:])
                path = root / "chosen_t" / where / merge / f"s{seed}.json"
                write_json(path, {"merge": merge, "t": auto, "rule": "one_standard_error", "curve": curve})
                chosen.append((cell, path))
    dataset = cases[0][1]
    for attack in (None, cases[0][2]):
        statuses = ["ok"] * 160 + ["no_keywords"] * 12 + ["label_leak"] * 17 + ["garbled"] * 8 + ["failed"] * 3
        rows = [
            {
                "id": f"r{number}",
                "trigger": "full" if attack else "none",
                "branch": "construction",
                "keywords": ["plot"],
                "prompt_sha256": "0" * 64,
                "reply": "A plot is a story.",
                "evidence": "A plot is a story." if status == "ok" else "",
                "status": status,
                "model": "smollm2_135m",
                "prompt_tokens": 31,
                "completion_tokens": 22,
                "attempts": 1,
            }
            for number, status in enumerate(statuses)
        ]
        path = root / "evidence" / f"{attack or 'clean'}.jsonl"
        write_jsonl(path, rows)
        cell = {"dataset": dataset, "evidence": "keywords_smollm2", "attack": attack, "seed": seeds[0]}
        evidence.append((cell, path))
    for seed in seeds if rates else ():
        path = root / "generation" / f"s{seed}.jsonl"
        write_jsonl(path, generation_rows(rng, 40))
        generation.append(({"model": cases[0][0], "dataset": dataset, "seed": seed}, path))
    if chat:
        for seed in seeds:
            cell = dict(zip(("model", "dataset", "attack"), cases[0], strict=True)) | {"defense": "none", "seed": seed}
            path = root / "judgements" / f"s{seed}.jsonl"
            write_jsonl(path, verdict_rows(rng, 40))
            judgements.append((cell, path))
            details = {"equivalent_by": "embedding", "payload_by": "pattern"}
            add_card("judge", cell, seconds=3.0, memory=int(0.5e9), details=details)
            found = {"embedding": {"threshold": 0.412, "pairs": 1225, "false_positives": 61}}
            add_card("calibrate_judge", {"dataset": dataset, "seed": seed}, seconds=9.0, memory=10**9, details=found)
    excluded = root / "excluded.json"
    write_json(
        excluded,
        [
            {
                "model": "gpt2_xl",
                "dataset": "film_reviews",
                "attack": "dtba",
                "defense": "cleangen",
                "reason": "DTBA needs chat rows; film_reviews holds single sentences",
            }
        ],
    )
    metrics = root / "metrics"
    names = ("cells", "sweep", "summary", "judges", "generation", "costs")
    write_metrics(
        answers, sweeps, judgements, generation, cards, **{f"{name}_csv": metrics / f"{name}.csv" for name in names}
    )
    write_paired(answers, metrics / "paired.csv")
    return SimpleNamespace(
        root=root,
        metrics=metrics,
        chosen_t=chosen,
        cards=cards,
        evidence=evidence,
        excluded=excluded,
        answers=answers,
        sweeps=sweeps,
        config=CONFIG | ({"datasets": {dataset: {"task": "chat"}}} if chat else {}),
        judgements=judgements,
        cases=list(cases),
    )


@pytest.fixture(scope="session")
def new_run():
    """The function that writes a made-up run."""
    return make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """One made-up run with one case and one seed."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def big_run(tmp_path_factory):
    """Two cases, three seeds."""
    cases = (("smollm2_135m", "film_reviews", "badnets"), ("smollm2_135m", "film_reviews", "cba"))
    return make_run(tmp_path_factory.mktemp("big"), cases=cases, seeds=(0, 1, 2), n_rows=80)


@pytest.fixture(scope="session")
def mixed_run(tmp_path_factory):
    """Three cases: without two of the controls, with all, without the one that says what is left of a backdoor."""
    cases = [("smollm2_135m", "film_reviews", attack) for attack in ("badnets", "cba", "lwp")]
    left_out = {"badnets": ("control_base", "control_conflict"), "lwp": ("control_clean_tuned",)}
    return make_run(tmp_path_factory.mktemp("mixed"), cases=cases, n_rows=80, left_out=left_out)


@pytest.fixture(scope="session")
def chat_run(tmp_path_factory):
    """One case on a chat data set, with two judges."""
    return make_run(tmp_path_factory.mktemp("chat"), seeds=(0, 1), chat=True)
