# The paper's tables and figures beside its own numbers. Each target computes the cells that it shows, and no others; this file
# comes after all rules whose files it shows where they are made.
from infoconflict.reporting import paper_cells
from infoconflict.reporting.published import FILES as PRINTED

PAPER_ROLES = paper_cells.roles_of(CONFIG, CELLS)
PAPER_TARGETS = [*paper_cells.TABLES, *paper_cells.FIGURES]
# The page holds defenses beside the paper's against the clean-tuned model.
PAPER_GOAL = [paper_cells.GOAL] if PAPER_ROLES.further else []
# What is measured beside the grid, by the target that shows it.
PAPER_EXPERIMENTS = {
    "table_6": "role_swap",
    "figure_3": "clean_share",
    "figure_4": "direct",
}
MADE = {str(file) for made in workflow.rules for file in made.output}


def paper_cells_of(target):
    return paper_cells.cells_of(target, CELLS, PAPER_ROLES)


def paper_experiments(*targets):
    """Return the metric files of the experiments that some targets show, by name; none where no rule makes them."""
    files = {name: f"results/metrics/{name}.csv" for name in map(PAPER_EXPERIMENTS.get, targets) if name}
    return {name: file for name, file in files.items() if file in MADE}


def paper_spec(**extra):
    """Return the settings of a rule that shows the paper's numbers beside ours."""
    settings = {"roles": PAPER_ROLES.as_spec(), "interval": CONFIG.evaluation.interval, **extra}
    # A function: text with braces would be read as wildcards.
    return lambda w: canonical(settings)


rule paper_metrics:
    input:
        answers=lambda w: [path_of("answers", cell, "answers.jsonl") for cell in paper_cells_of(w.target)],
        # One after another for each cell, so that its defense's costs can be told.
        cards=lambda w: [card for cell in paper_cells_of(w.target) for card in cards_of([cell])],
        code=code("paper_metrics"),
    output:
        cells="results/paper/metrics/{target}.csv",
        costs="results/paper/metrics/{target}_costs.csv",
    log:
        "logs/paper_metrics/{target}.log",
    localrule: True
    params:
        spec=lambda w: canonical(
            {
                "cells": cell_list(paper_cells_of(w.target)),
                "n_cards": [len(cards_of([cell])) for cell in paper_cells_of(w.target)],
                "interval": CONFIG.evaluation.interval,
            }
        ),
    script:
        "../scripts/paper_metrics.py"


rule paper_table:
    input:
        unpack(lambda w: paper_experiments(f"table_{w.number}")),
        cells="results/paper/metrics/table_{number}.csv",
        costs="results/paper/metrics/table_{number}_costs.csv",
        printed=PRINTED,
        code=code("paper_table"),
    output:
        csv="results/paper/table_{number}.csv",
        tex="results/paper/table_{number}.tex",
        html="results/paper/table_{number}.html",
    log:
        "logs/paper_table/{number}.log",
    localrule: True
    params:
        spec=paper_spec(),
    script:
        "../scripts/paper_table.py"


rule paper_figure:
    input:
        unpack(lambda w: paper_experiments(f"figure_{w.number}")),
        cells="results/paper/metrics/figure_{number}.csv",
        printed=PRINTED,
        code=code("paper_figure"),
    output:
        pdf="results/paper/figure_{number}.pdf",
        png="results/paper/figure_{number}.png",
        csv="results/paper/figure_{number}.csv",
    log:
        "logs/paper_figure/{number}.log",
    localrule: True
    params:
        spec=paper_spec(figures=spec_of(CONFIG.figures)),
    script:
        "../scripts/paper_figure.py"


rule paper:
    input:
        **paper_experiments(*PAPER_TARGETS),
        cells=expand("results/paper/metrics/{target}.csv", target=[*PAPER_TARGETS, *PAPER_GOAL]),
        costs=expand("results/paper/metrics/{target}_costs.csv", target=paper_cells.TABLES),
        tables=expand(
            "results/paper/{table}.{suffix}",
            table=paper_cells.TABLES,
            suffix=["csv", "tex", "html"],
        ),
        figures=expand("results/paper/{figure}.png", figure=paper_cells.FIGURES),
        printed=PRINTED,
        code=code("paper"),
    output:
        page="results/paper/index.html",
    log:
        "logs/paper/all.log",
    localrule: True
    params:
        spec=paper_spec(config=spec_of(CONFIG)),
    script:
        "../scripts/paper.py"


# `snakemake table_1` and so on, in every preset: what it has no cell for is shown as not computed.
for target in PAPER_TARGETS:

    rule:
        name:
            target
        input:
            f"results/paper/{target}.csv",
        localrule: True


wildcard_constraints:
    target=any_of([*PAPER_TARGETS, *PAPER_GOAL]),
    number=r"\d",
