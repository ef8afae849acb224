"""Made-up metric files with the shape of a real run of the paper's tables; the rates are invented."""

import random
from pathlib import Path

from infoconflict.metrics import CELL_COLUMNS, Rate, write_csv
from infoconflict.reporting.paper_cells import COLUMNS, Roles, attacks_of
from infoconflict.reporting.paper_measures import COST_COLUMNS
from infoconflict.reporting.published import BASELINES

ROLES = Roles(
    models={"gpt2_xl": "gpt2_xl", "my_llama": "llama"},
    datasets={"sst2": "sst2", "emotion": "emotion", "talks": "chat"},
    attacks={
        name: name for name in ("cba", "badedit", "rome", "memit", "lwp", "dtba", "autopoison", "vpi", "adaptive_cba")
    },
    defenses={name: name for name in ("none", *BASELINES, "internal", "external", "conflict") if name != "fine_tuning"}
    | {"ft_full": "fine_tuning"},
    stand_ins={"fine_tuning": ("ft_10",), "conflict": ("conflict_rewritten",)},
    merge_kind="conflict",
    merges={"conflict": "linear", "conflict_ties": "ties", "conflict_slerp": "slerp"},
    further=("conflict_plus",),
)
RATES = {
    "none": (0.95, 0.86),
    "editing": (0.80, 0.82),
    "wanda": (0.72, 0.83),
    "ft_full": (0.20, 0.90),
    "fine_pruning": (0.60, 0.79),
    "speculative": (0.94, 0.86),
    "cleangen": (0.40, 0.85),
    "nad": (0.22, 0.80),
    "beear": (0.35, 0.81),
    "internal": (0.09, 0.85),
    "external": (0.85, 0.84),
    "conflict": (0.03, 0.86),
    "conflict_plus": (0.01, 0.87),
    "conflict_ties": (0.12, 0.70),
    "conflict_slerp": (0.04, 0.85),
    "control_clean_tuned": (0.01, 0.87),
}
# Defenses that a model was not tried with.
_LEFT_OUT = {"gpt2_xl": ("editing",)}


def cell_rows(cells, *, seeds=(0, 1, 2), rows=200, rng=None):
    """Lines of a metrics file for (model, dataset, attack, defense)."""
    rng = rng or random.Random(5)
    found = []
    for model, dataset, attack, defense in cells:
        for seed in seeds:
            for metric, share in zip(("asr", "cda"), RATES[defense], strict=True):
                hits = sum(rng.random() < share for _ in range(rows))
                found.append([model, dataset, attack, defense, str(seed), metric, *rate_fields(hits, rows)])
    return found


def rate_fields(hits, total):
    rate = Rate(hits=hits, total=total)
    return [str(hits), str(total), f"{rate.value:.6f}", *(f"{end:.6f}" for end in rate.interval())]


def make_paper_run(folder: Path) -> dict:
    """Write one metrics file, one of costs, and those of the experiments; return them by name."""
    cells = []
    for model in ("gpt2_xl", "smollm2_135m", "my_llama"):
        for dataset in ("sst2", "emotion", "talks"):
            role = ROLES.datasets[dataset]
            for attack in attacks_of(3 if role == "chat" else 1, role):
                if (model, attack) != ("gpt2_xl", "lwp"):
                    left_out = _LEFT_OUT.get(model, ())
                    cells += [(model, dataset, attack, defense) for defense in RATES if defense not in left_out]
        cells += [(model, "emotion", "adaptive_cba", defense) for defense in ("none", "conflict")]
    write_csv(folder / "cells.csv", CELL_COLUMNS, cell_rows(cells))
    costs = [
        [*cell, "0", stage, str(seconds), "1.5", "0.000", "12000", "2.500", "cpu"]
        for cell in cells
        if cell[1] != "sst2" and cell[3] in (*COLUMNS[9], "ft_full", "none")
        for stage, seconds in ((("answer", 400),) if cell[3] == "none" else (("train_conflict", 1800), ("answer", 600)))
    ]
    write_csv(folder / "costs.csv", COST_COLUMNS, costs)
    rates = ("metric", "hits", "total", "rate", "low", "high")
    curve = [
        [model, dataset, attack, "conflict", share, "0", metric, *rate_fields(hits, 200)]
        for model in ("smollm2_135m", "my_llama")
        for dataset, attack in (("emotion", "cba"), ("talks", "dtba"))
        for share, asr, cda in (("0.05", 60, 160), ("0.1", 30, 164), ("0.5", 8, 170), ("1", 4, 176))
        for metric, hits in (("asr", asr), ("cda", cda))
    ]
    write_csv(folder / "clean_share.csv", ("model", "dataset", "attack", "defense", "share", "seed", *rates), curve)
    direct = [
        ["gpt35", dataset, attack, run, "0", metric, *rate_fields(hits, 200)]
        for dataset in ("emotion", "talks")
        for run in ("0", "1")
        for attack, metric, hits in (("", "cda", 110), ("cba", "asr", 30))
    ]
    write_csv(folder / "direct.csv", ("direct", "dataset", "attack", "run", "seed", *rates), direct)
    swap = [
        ["smollm2_135m", "emotion", "cba", merge, experiment, role, "", "", "", "0", metric, *rate_fields(hits, 200)]
        for merge in ("slerp", "linear")
        for experiment, role, asr, cda in (
            *(("ours", "m1", 150, 180), ("ours", "m2", 10, 176), ("ours", "m1+m2", 14, 178)),
            *(("1", "m3", 4, 184), ("1", "m4", 200, 3), ("1", "m3+m4", 160, 170)),
            *(("2", "m5", 198, 180), ("2", "m6", 199, 4), ("2", "m5+m6", 200, 6)),
        )
        for metric, hits in (("asr", asr), ("cda", cda))
    ]
    names = ("model", "dataset", "attack", "merge", "experiment", "role", "stage", "pcs", "pbs", "seed")
    write_csv(folder / "role_swap.csv", (*names, *rates), swap)
    return {name: folder / f"{name}.csv" for name in ("cells", "costs", "clean_share", "direct", "role_swap")}
