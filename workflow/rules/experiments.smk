# Beside the grid: the clean-share curve (the paper's figure 3), an external model asked directly (figure 4), and merges with
# the roles of clean and backdoor rows exchanged (table 6). The jobs are those of the cells, under other settings and paths.
from infoconflict.experiments.cells import (
    curve_points,
    direct_questions,
    own_points,
    role_merges,
)
from infoconflict.experiments.roles import ANSWERED, EXPERIMENTS, ROLES, is_small

# --- the curve over the clean share -----------------------------------------------------------------------------------

CURVE = "results/clean_share_curve/{share}"
CURVE_POINTS = curve_points(CONFIG, GRID)
OWN_POINTS = own_points(CONFIG, GRID)


def point_answers(point):
    """Return the answers of a point; at the config's own share they are the cell's."""
    if point not in OWN_POINTS:
        return path_of("answers", point, "answers.jsonl")
    return path_of(f"clean_share_curve/{point.share_name}/answers", point, "answers.jsonl")


def at_share(inputs):
    """Return an input function's files with merged models of the share in place of the config's."""

    def found(w):
        files = inputs(w)
        curve = CURVE.format(share=w.share)
        return {
            name: (path.replace("results/merged/", f"{curve}/merged/", 1) if name == "merged" else path)
            for name, path in files.items()
        }

    return found


def chosen_t_at_share(w):
    """Return the file that says which t was chosen at a share, for merges with ``t: auto``."""
    folder = f"{CURVE}/chosen_t/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}".format(**dict(w))
    return f"{folder}/chosen_t.json" if uses_auto_t(w.merge) else []


use rule draw_clean_share as draw_clean_share_at with:
    output:
        train=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/train.jsonl",
        holdout=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/holdout.jsonl",
        card=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/card.json",
    log:
        "logs/draw_clean_share_at/{share}.{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_clean_share_at/{share}.{dataset}.s{seed}.jsonl"


use rule train_conflict as train_conflict_at_share with:
    input:
        base="results/models/{model}",
        train=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/train.jsonl",
        code=code("train_conflict"),
    output:
        change=directory(f"{CURVE}/conflict/{{model}}/{{dataset}}/s{{seed}}/change"),
        losses=f"{CURVE}/conflict/{{model}}/{{dataset}}/s{{seed}}/losses.jsonl",
        card=f"{CURVE}/conflict/{{model}}/{{dataset}}/s{{seed}}/card.json",
    log:
        "logs/train_conflict_at_share/{share}.{model}.{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_conflict_at_share/{share}.{model}.{dataset}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("train_conflict_at_share")[0],
        runtime=resources_for("train_conflict_at_share")[1],


use rule choose_t as choose_t_at_share with:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        conflict=f"{CURVE}/conflict/{{model}}/{{dataset}}/s{{seed}}/change",
        holdout=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/holdout.jsonl",
        code=code("choose_t"),
    output:
        chosen=f"{CURVE}/chosen_t/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}/chosen_t.json",
        card=f"{CURVE}/chosen_t/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}/card.json",
    log:
        "logs/choose_t_at_share/{share}.{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/choose_t_at_share/{share}.{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("choose_t_at_share")[0],
        runtime=resources_for("choose_t_at_share")[1],


use rule merge_models as merge_at_share with:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        conflict=f"{CURVE}/conflict/{{model}}/{{dataset}}/s{{seed}}/change",
        chosen_t=chosen_t_at_share,
        code=code("merge_models"),
    output:
        model=maybe_temp(directory(f"{CURVE}/merged/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}/model")),
        mergekit=f"{CURVE}/merged/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}/mergekit.yaml",
        card=f"{CURVE}/merged/{{model}}/{{dataset}}/{{attack}}/{{merge}}/s{{seed}}/card.json",
    log:
        "logs/merge_at_share/{share}.{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/merge_at_share/{share}.{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("merge_at_share")[0],
        runtime=resources_for("merge_at_share")[1],


use rule answer as answer_at_share with:
    input:
        unpack(at_share(answer_inputs)),
        base="results/models/{model}",
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        partial="results/test_sets/{dataset}/{attack}/s{seed}/partial.jsonl",
        code=code("answer"),
    output:
        answers=f"{CURVE}/answers/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/answers.jsonl",
        card=f"{CURVE}/answers/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/card.json",
    log:
        "logs/answer_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/answer_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("answer_at_share")[0],
        runtime=resources_for("answer_at_share")[1],


use rule reply as reply_at_share with:
    input:
        unpack(at_share(answer_inputs)),
        base="results/models/{model}",
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        partial="results/test_sets/{dataset}/{attack}/s{seed}/partial.jsonl",
        code=code("reply"),
    output:
        replies=f"{CURVE}/replies/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/replies.jsonl",
        card=f"{CURVE}/replies/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/card.json",
    log:
        "logs/reply_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/reply_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("reply_at_share")[0],
        runtime=resources_for("reply_at_share")[1],


use rule judge as judge_at_share with:
    input:
        unpack(judge_inputs),
        replies=f"{CURVE}/replies/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/replies.jsonl",
        code=judge_code("judge"),
    output:
        answers=f"{CURVE}/answers/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/answers.jsonl",
        judgements=f"{CURVE}/judgements/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/judgements.jsonl",
        card=f"{CURVE}/answers/{{model}}/{{dataset}}/{{attack}}/{{defense}}/s{{seed}}/card.json",
    log:
        "logs/judge_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/judge_at_share/{share}.{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"


def curve_cards():
    """Return the cards of the points that are no cells."""
    cards = []
    for point in OWN_POINTS:
        curve, data = f"results/clean_share_curve/{point.share_name}", f"{point.dataset}/s{point.seed}"
        merge = CONFIG.defenses[point.defense].merge
        trial = f"{point.model}/{point.dataset}/{point.attack}/{merge}/s{point.seed}"
        cards += [
            f"{curve}/clean_share/{data}/card.json",
            f"{curve}/conflict/{point.model}/{data}/card.json",
            f"{curve}/merged/{trial}/card.json",
            str(Path(point_answers(point)).with_name("card.json")),
        ]
        if uses_auto_t(merge):
            cards.append(f"{curve}/chosen_t/{trial}/card.json")
        if is_chat(point.dataset):
            cards.append(path_of(f"clean_share_curve/{point.share_name}/replies", point, "card.json"))
    return cards


rule measure_clean_share:
    input:
        answers=[point_answers(point) for point in CURVE_POINTS],
        code=code("measure_clean_share"),
    output:
        csv="results/metrics/clean_share.csv",
    log:
        "logs/measure_clean_share/all.log",
    localrule: True
    params:
        spec=canonical({"points": cell_list(CURVE_POINTS), "interval": CONFIG.evaluation.interval}),
    script:
        "../scripts/measure_clean_share.py"


# --- an external model that is asked directly -------------------------------------------------------------------------

DIRECT = "results/direct/{direct}/{dataset}/s{seed}/r{run}"
DIRECT_QUESTIONS = direct_questions(CONFIG, GRID)


def direct_path(asked, name):
    return f"results/direct/{asked.direct}/{asked.dataset}/s{asked.seed}/r{asked.run}/{asked.asked}.{name}"


def attack_of_rows(w):
    """Return the attack whose triggered rows are asked, or None."""
    attack, _, triggered = w.rows.rpartition(".")
    return attack if triggered == "triggered" else None


def direct_rows(w):
    """Return the test set that is asked."""
    if attack := attack_of_rows(w):
        return f"results/test_sets/{w.dataset}/{attack}/s{w.seed}/triggered.jsonl"
    return f"results/data/{w.dataset}/s{w.seed}/test.jsonl"


def direct_provider(w):
    return CONFIG.direct[w.direct].provider


def direct_model(w):
    """Return the checkpoint that a local server answers with."""
    provider = direct_provider(w)
    return f"results/models/{provider.model}" if provider.kind == "local_server" else []


def direct_recorded(w):
    """Return the file of recorded replies."""
    provider = direct_provider(w)
    return provider.path if provider.kind == "recorded" else []


def direct_asked(name):
    """Return how the provider is asked: settings that change no result travel as resources, which rerun nothing."""
    return lambda w: int(getattr(direct_provider(w), name, 0))


def direct_needs(stage, estimate):
    """Return a resource function for the model of a local server; other providers need no model here."""

    def needed(w, attempt):
        provider = direct_provider(w)
        entry = CONFIG.models[provider.model] if provider.kind == "local_server" else None
        return estimate(stage, entry, attempt)

    return needed


def direct_settings(w):
    """Return whom the questions go to, with the model that a local server answers with."""
    provider = spec_of(CONFIG.direct[w.direct])["provider"]
    if provider["kind"] == "local_server":
        provider["model_settings"] = spec_of(CONFIG.models[provider["model"]])
    return {"direct": {"provider": provider}}


def direct_spec(w):
    """Return the settings of the questions; the target label only says which answers an attack wants."""
    named, own, above = Named(w), direct_settings(w) | settings_of("labels", w), ["dataset"]
    if is_chat(w.dataset) and w.rows == "clean":
        own["chat_rows"] = CONFIG.evaluation.chat_rows
    if attack := attack_of_rows(w):
        named.attack = attack
        own |= settings_of("target_label", named)
        above.append("trigger")
    settings = {name: value for part in above for name, value in settings_of(part, named).items()}
    return canonical(own | {"above": sha256_of_text(canonical(settings))[:16]})


def direct_judge_spec(w):
    """Return the judges, and the payload that they look for in triggered rows."""
    named = Named(w)
    own = settings_of("judges", w) | {"payload": None}
    if attack := attack_of_rows(w):
        named.attack = attack
        own |= settings_of("payload", named)
    return canonical(own | {"above": sha256_of_text(direct_spec(w))[:16]})


rule ask_direct:
    input:
        questions=direct_rows,
        model=direct_model,
        recorded=direct_recorded,
        code=code("ask_direct"),
    output:
        answers=f"{DIRECT}/{{rows}}.answers.jsonl",
        card=f"{DIRECT}/{{rows}}.card.json",
    log:
        "logs/ask_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.log",
    benchmark:
        "benchmarks/results/ask_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    threads: 1
    resources:
        concurrency=direct_asked("concurrency"),
        timeout_s=direct_asked("timeout_s"),
        max_retries=direct_asked("max_retries"),
        mem_mb=direct_needs("ask_direct", mem_mb_of),
        runtime=direct_needs("ask_direct", runtime_of),
    params:
        spec=direct_spec,
    script:
        "../scripts/ask_direct.py"


rule reply_direct:
    input:
        questions=direct_rows,
        model=direct_model,
        recorded=direct_recorded,
        code=code("reply_direct"),
    output:
        replies=f"{DIRECT}/{{rows}}.replies.jsonl",
        card=f"{DIRECT}/{{rows}}.replies.card.json",
    log:
        "logs/reply_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.log",
    benchmark:
        "benchmarks/results/reply_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=CHATS,
    threads: 1
    resources:
        concurrency=direct_asked("concurrency"),
        timeout_s=direct_asked("timeout_s"),
        max_retries=direct_asked("max_retries"),
        mem_mb=direct_needs("reply_direct", mem_mb_of),
        runtime=direct_needs("reply_direct", runtime_of),
    params:
        spec=direct_spec,
    script:
        "../scripts/reply_direct.py"


use rule judge as judge_direct with:
    input:
        unpack(judge_inputs),
        replies=f"{DIRECT}/{{rows}}.replies.jsonl",
        code=judge_code("judge"),
    output:
        answers=f"{DIRECT}/{{rows}}.answers.jsonl",
        judgements=f"{DIRECT}/{{rows}}.judgements.jsonl",
        card=f"{DIRECT}/{{rows}}.card.json",
    log:
        "logs/judge_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.log",
    benchmark:
        "benchmarks/results/judge_direct/{direct}.{dataset}.{rows}.r{run}.s{seed}.jsonl"
    params:
        spec=direct_judge_spec,


def direct_cards():
    """Return the cards of all that external models are asked directly."""
    cards = []
    for asked in DIRECT_QUESTIONS:
        cards.append(direct_path(asked, "card.json"))
        if is_chat(asked.dataset):
            cards.append(direct_path(asked, "replies.card.json"))
    return cards


rule measure_direct:
    input:
        answers=[direct_path(asked, "answers.jsonl") for asked in DIRECT_QUESTIONS],
        code=code("measure_direct"),
    output:
        csv="results/metrics/direct.csv",
    log:
        "logs/measure_direct/all.log",
    localrule: True
    params:
        spec=canonical({"questions": cell_list(DIRECT_QUESTIONS), "interval": CONFIG.evaluation.interval}),
    script:
        "../scripts/measure_direct.py"


# --- merges with exchanged roles --------------------------------------------------------------------------------------

ROLE_MERGES = role_merges(CONFIG, GRID)
ROLE_MODEL = "results/role_swap/{role}/{model}/{dataset}/{attack}/s{seed}"


def role_settings(*names):
    """Return some of the settings of models with exchanged roles."""
    settings = spec_of(CONFIG.role_swap)
    return {name: settings[name] for name in names}


def role_rows_spec(w):
    """Return the settings of the rows of every role."""
    own = settings_of("attack", w) | settings_of("target_label", w)
    own["role_swap"] = role_settings("rows", "small_share")
    return canonical(own | {"above": sha256_of_text(canonical(settings_of("dataset", w)))[:16]})


def role_training(role):
    """Return how a model of a role is tuned: on few rows as a conflict model, else as the backdoored one."""
    stages = CONFIG.training
    return training_settings(stages.conflict if is_small(role) else stages.backdoored)


def role_model_spec(w):
    own = settings_of("model", w) | {"training": role_training(w.role)}
    return canonical(own | {"above": sha256_of_text(role_rows_spec(w))[:16]})


def role_answers_spec(w):
    """Return the settings of the questions, with all that stands above both models."""
    own = {
        name: value
        for part in ("model", "swept_merge", "labels", "target_label")
        for name, value in settings_of(part, w).items()
    }
    pair = {role: role_training(role) for role in EXPERIMENTS[w.experiment]}
    above = canonical({"training": pair, "rows": role_rows_spec(w), **settings_of("trigger", w)})
    return canonical(own | {"t": CONFIG.role_swap.t, "above": sha256_of_text(above)[:16]})


def role_model(place):
    """Return the change of the first (0) or the second (1) model of an experiment."""
    return lambda w: f"{ROLE_MODEL}/change".format(**dict(w), role=EXPERIMENTS[w.experiment][place])


def role_path(merge, name):
    return (
        "results/role_swap/answers/{model}/{dataset}/{attack}/{merge}/{experiment}/s{seed}/".format(**vars(merge))
        + name
    )


rule draw_roles:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        code=attack_code("draw_roles"),
    output:
        train=[f"results/role_swap/rows/{{dataset}}/{{attack}}/s{{seed}}/{role}.jsonl" for role in ROLES],
        card="results/role_swap/rows/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/draw_roles/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_roles/{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    localrule: True
    threads: 1
    params:
        spec=role_rows_spec,
    script:
        "../scripts/draw_roles.py"


use rule train_conflict as train_role with:
    input:
        base="results/models/{model}",
        train="results/role_swap/rows/{dataset}/{attack}/s{seed}/{role}.jsonl",
        code=code("train_conflict"),
    output:
        change=directory(f"{ROLE_MODEL}/change"),
        losses=f"{ROLE_MODEL}/losses.jsonl",
        card=f"{ROLE_MODEL}/card.json",
    log:
        "logs/train_role/{role}.{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_role/{role}.{model}.{dataset}.{attack}.s{seed}.jsonl"
    resources:
        mem_mb=resources_for("train_role")[0],
        runtime=resources_for("train_role")[1],
    params:
        spec=role_model_spec,


rule answer_roles:
    input:
        base="results/models/{model}",
        backdoored=role_model(0),
        conflict=role_model(1),
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        code=code("answer_roles"),
    output:
        **{
            name: f"results/role_swap/answers/{{model}}/{{dataset}}/{{attack}}/{{merge}}/{{experiment}}/s{{seed}}/{name}.jsonl"
            for name in ANSWERED
        },
        card="results/role_swap/answers/{model}/{dataset}/{attack}/{merge}/{experiment}/s{seed}/card.json",
    log:
        "logs/answer_roles/{model}.{dataset}.{attack}.{merge}.{experiment}.s{seed}.log",
    benchmark:
        "benchmarks/results/answer_roles/{model}.{dataset}.{attack}.{merge}.{experiment}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    threads: 1
    resources:
        mem_mb=resources_for("answer_roles")[0],
        runtime=resources_for("answer_roles")[1],
    params:
        spec=role_answers_spec,
    script:
        "../scripts/answer_roles.py"


def role_cards():
    """Return the cards of all experiments with exchanged roles."""
    cards = []
    for merge in ROLE_MERGES:
        trial = f"{merge.dataset}/{merge.attack}/s{merge.seed}"
        cards += [
            f"results/role_swap/rows/{trial}/card.json",
            *(f"results/role_swap/{role}/{merge.model}/{trial}/card.json" for role in EXPERIMENTS[merge.experiment]),
            role_path(merge, "card.json"),
        ]
    return cards


rule measure_role_swap:
    input:
        answers=[role_path(merge, f"{name}.jsonl") for merge in ROLE_MERGES for name in ANSWERED],
        code=code("measure_role_swap"),
    output:
        csv="results/metrics/role_swap.csv",
    log:
        "logs/measure_role_swap/all.log",
    localrule: True
    params:
        spec=canonical(
            {
                "merges": [cell | {"answered": name} for cell in cell_list(ROLE_MERGES) for name in ANSWERED],
                "small_share": CONFIG.role_swap.small_share,
                "interval": CONFIG.evaluation.interval,
            }
        ),
    script:
        "../scripts/measure_role_swap.py"


# --- targets ----------------------------------------------------------------------------------------------------------


def experiment_metrics():
    """Return the metric files of the experiments."""
    return [f"results/metrics/{name}.csv" for name in ("clean_share", "direct", "role_swap")]


def experiment_cards():
    """Return the cards of every stage of the experiments, which are not among those of the cells."""
    return list(dict.fromkeys([*curve_cards(), *direct_cards(), *role_cards()]))


wildcard_constraints:
    share=any_of(point.share_name for point in OWN_POINTS),
    direct=any_of(CONFIG.direct),
    run=r"\d+",
    rows=any_of(asked.asked for asked in DIRECT_QUESTIONS),
    role=any_of(ROLES),
    experiment=any_of(EXPERIMENTS),
