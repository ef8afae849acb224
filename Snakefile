# Plants backdoors in language models, removes them with information conflicts, measures both.
# Config, stages, targets; the stages are in workflow/rules, what they call in src/infoconflict.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.11")

# A preset given by --configfile stands alone; only without one the demo is read.
if not workflow.config_settings.configfiles:

    configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/oracle.smk"
include: "workflow/rules/poison.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/edit.smk"
include: "workflow/rules/merge.smk"
include: "workflow/rules/adapt.smk"
include: "workflow/rules/repair.smk"
include: "workflow/rules/filter.smk"
include: "workflow/rules/evidence.smk"
include: "workflow/rules/answer.smk"
include: "workflow/rules/controls.smk"
include: "workflow/rules/chat.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/ledger.smk"


report: "reports/captions/workflow.rst"


localrules:
    all,


# Cards make a result whose ancestor failed or vanished visible: without them it would stand as if nothing had happened.
rule all:
    default_target: True
    input:
        page="results/report/index.html",
        experiments=experiment_metrics(),
        cards=all_cards() + experiment_cards(),
