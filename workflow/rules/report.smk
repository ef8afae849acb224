# From answers to what a person reads. Nothing here needs a model: a new metric or figure is a matter of seconds.
from infoconflict.reporting.methods import method_files
from infoconflict.reporting.names import FIGURE_FORMATS, FIGURES, TABLE_FORMATS, TABLES

METRICS = ["cells", "sweep", "summary", "judges", "generation", "costs", "paired"]


def cell_list(cells):
    """Return cells as plain dicts, in the order of the files that belong to them."""
    return [dict(cell) if isinstance(cell, dict) else dict(vars(cell)) for cell in cells]


def chosen_cells():
    """Return the cells of all_chosen_t(), in its order."""
    names = ("model", "dataset", "attack", "merge", "seed")
    return [dict(zip(names, [*path.split("/")[2:6], int(path.split("/")[6][1:])])) for path in all_chosen_t()]


def evidence_cells():
    """Return the cells of all_evidence(), in its order."""
    found = []
    for path in all_evidence():
        dataset, evidence, *owner, seed, _ = path.split("/")[2:]
        cell = {"dataset": dataset, "evidence": evidence, "seed": int(seed[1:])}
        found.append(cell | dict(zip(["attack", "model"], owner)))
    return found


def report_spec(**extra):
    """Return the settings of a reporting rule: the interval, and whose numbers the input files are."""
    return lambda w: canonical({"interval": CONFIG.evaluation.interval, "chosen_t": chosen_cells(), **extra})


rule list_excluded:
    output:
        excluded="results/excluded.json",
    log:
        "logs/list_excluded/all.log",
    localrule: True
    params:
        spec=canonical({"excluded": cell_list(GRID.excluded)}),
    script:
        "../scripts/list_excluded.py"


rule metrics:
    input:
        answers=all_answers(),
        sweeps=all_sweeps(),
        judgements=all_judgements(),
        generation=all_generation(),
        cards=all_cards(),
        code=code("metrics"),
    output:
        cells="results/metrics/cells.csv",
        sweep="results/metrics/sweep.csv",
        summary="results/metrics/summary.csv",
        judges="results/metrics/judges.csv",
        generation="results/metrics/generation.csv",
        costs="results/metrics/costs.csv",
        paired="results/metrics/paired.csv",
        # Not among all_cards(), which are read here.
        card="results/metrics/card.json",
    log:
        "logs/metrics/all.log",
    localrule: True
    params:
        spec=report_spec(
            cells=cell_list(CELLS),
            sweeps=cell_list(sweep_cells()),
            judged=cell_list(judged_cells()),
            generation=generation_cells(),
        ),
    script:
        "../scripts/metrics.py"


rule tables:
    input:
        metrics=expand("results/metrics/{name}.csv", name=METRICS),
        chosen_t=all_chosen_t(),
        excluded="results/excluded.json",
        code=code("tables"),
    output:
        csv=[
            report(
                f"results/tables/{name}.csv",
                category="Tables",
                labels={"table": name},
                caption=f"../../reports/captions/table_{name}.rst",
            )
            for name in TABLES
        ],
        tex=expand("results/tables/{name}.tex", name=TABLES),
    log:
        "logs/tables/all.log",
    localrule: True
    params:
        spec=report_spec(),
    script:
        "../scripts/tables.py"


FIGURE_FOLDER = "results/figures/{model}/{dataset}/{attack}"


def all_figures():
    cases = dict.fromkeys((cell.model, cell.dataset, cell.attack) for cell in CELLS)
    return [
        f"results/figures/{model}/{dataset}/{attack}/{name}.{suffix}"
        for model, dataset, attack in cases
        for name in FIGURES
        for suffix in FIGURE_FORMATS
    ]


rule figures:
    input:
        metrics=expand("results/metrics/{name}.csv", name=METRICS),
        chosen_t=all_chosen_t(),
        code=code("figures"),
    output:
        png=[
            report(
                f"{FIGURE_FOLDER}/{name}.png",
                category="Figures",
                subcategory="{attack} on {dataset}",
                labels={"figure": name, "model": "{model}"},
                caption=f"../../reports/captions/figure_{name}.rst",
            )
            for name in FIGURES
        ],
        pdf=[f"{FIGURE_FOLDER}/{name}.pdf" for name in FIGURES],
    log:
        "logs/figures/{model}.{dataset}.{attack}.log",
    localrule: True
    params:
        spec=report_spec(figures=spec_of(CONFIG.figures)),
    script:
        "../scripts/figures.py"


rule report:
    input:
        metrics=expand("results/metrics/{name}.csv", name=METRICS),
        tables=expand("results/tables/{name}.{suffix}", name=TABLES, suffix=TABLE_FORMATS),
        figures=all_figures(),
        chosen_t=all_chosen_t(),
        evidence=all_evidence(),
        answers=all_answers(),
        excluded="results/excluded.json",
        cards=all_cards(),
        # The page quotes what the methods say of themselves.
        code=lambda w: code("report", *method_files(spec_of(CONFIG))),
    output:
        page=report(
            "results/report/index.html",
            category="Report",
            caption="../../reports/captions/page.rst",
        ),
    log:
        "logs/report/all.log",
    localrule: True
    params:
        spec=report_spec(config=spec_of(CONFIG), evidence=evidence_cells(), cells=cell_list(CELLS)),
    script:
        "../scripts/report.py"
