# Conversations: every model of a cell replies to every question; a judge turns replies into answers.


rule reply:
    input:
        unpack(answer_inputs),
        base="results/models/{model}",
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered=triggered_questions,
        partial=partial_questions,
        code=code("reply"),
    output:
        replies="results/replies/{model}/{dataset}/{attack}/{defense}/s{seed}/replies.jsonl",
        card="results/replies/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/reply/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/reply/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=CHATS,
    threads: 1
    resources:
        mem_mb=resources_for("reply")[0],
        runtime=resources_for("reply")[1],
    params:
        spec=answer_spec,
    script:
        "../scripts/reply.py"
