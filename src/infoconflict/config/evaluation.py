"""How answers are got, counted and shown."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infoconflict.config.values import Ids, InnerShare
from infoconflict.entries import Count, Entry, Line, spec_of
from infoconflict.errors import did_you_mean
from infoconflict.judges import EmbeddingJudge, Judge, JudgeEntry, PatternJudge, PayloadJudgeEntry

_DATA = ("sst2", "emotion", "chat")
CLAIMS = (
    *(f"{claim}_{data}" for claim in ("lowest", "accuracy_kept", "accuracy_above") for data in _DATA),
    *("adaptive", "both_lowest_classification", "both_lowest_chat", "merge_methods", "merge_keeps", "merge_loses"),
    *("little_more_time", "more_data", "better_than_external_emotion", "better_than_external_chat"),
)
"""The paper's claims by id, in the order of the page that holds them against a run."""


class Evaluation(Entry):
    """How models are asked and answers counted."""

    mode: Literal["scores", "generate"] = "scores"
    """`scores`: the label with the highest length-normalised log-probability; `generate`: the first label named in a
    greedily generated answer. Ours; CBA's and Lethe's code sample at temperature 0.7."""
    max_new_tokens: Count = 8
    """Longest generated answer in tokens. Ours."""
    max_new_tokens_chat: Count = 128
    """Longest reply on the chat task in tokens, at most half the model's context. Paper, A.2: 128 for GPT2-XL, 2,048 for the
    other models."""
    chat_rows: Count | None = None
    """Clean test conversations asked on the chat task; null: all. Ours."""
    partial_rows: Count | None = None
    """Non-target test rows asked with each partial trigger; null: all. Ours."""
    interval: InnerShare = 0.95
    """Confidence level of the Wilson intervals. Ours."""
    compare_generation: bool = True
    """Ask each clean-tuned model of a classification by generation, too, and report how far the two agree. Ours."""
    compare_rows: Count = 100
    """Clean test rows of that comparison. Ours."""
    judge: JudgeEntry = EmbeddingJudge(kind="embedding")
    """Chat: who decides whether a reply is equivalent to the reference. Ours; the paper asks GPT-3.5."""
    payload_judge: PayloadJudgeEntry = PatternJudge(kind="pattern")
    """Chat: who decides whether a reply holds the attack's payload. Ours."""
    compare_judges: list[JudgeEntry] = []
    """Chat: further judges of the same rows; the report says how far they agree, no metric uses them. Ours."""

    @model_validator(mode="after")
    def _judges_have_names_of_their_own(self) -> "Evaluation":
        named = [("judge", self.judge), *(("compare_judges", judge) for judge in self.compare_judges)]
        for name, count in Counter(judge.name for _, judge in named).items():
            if count > 1:
                raise ValueError(f"judge and compare_judges name the judge '{name}' more than once; keep one")
        for key, judge in named:
            if judge.name == self.payload_judge.name and judge != self.payload_judge:
                raise ValueError(
                    f"payload_judge and {key} have the judge '{judge.name}' with different settings; make them the same"
                )
        return self

    def judges(self) -> list[dict[str, Any]]:
        """Return the settings of each judge with its ``name`` and its ``claims``; the one that decides comes first.

        A claim is ``equivalent`` (to the reference) or ``payload`` (held by the reply).
        """
        found: dict[str, dict[str, Any]] = {}

        def add(judge: Judge, *claims: str) -> None:
            settings = found.setdefault(judge.name, {**spec_of(judge), "name": judge.name, "claims": []})
            settings["claims"] += [claim for claim in claims if claim not in settings["claims"]]

        add(self.judge, "equivalent")
        add(self.payload_judge, "payload")
        for judge in self.compare_judges:
            add(judge, "equivalent", *(["payload"] if judge.finds_payloads else []))
        return list(found.values())


class Figures(Entry):
    """How figures look; changes no number."""

    dpi: Annotated[int, Field(ge=50, le=1200)] = 150
    """Dots per inch of PNG files. Ours."""


class PaperNames(Entry):
    """Which numbers of the paper stand beside ours; changes none of ours."""

    models: dict[str, Literal["gpt2_xl", "gptj", "llama", "llama2"]] = {}
    """The paper's model by an id under `models`, where its name does not tell: GPT2-XL, GPT-J-6B, LLaMA-7B or Llama-2-7B. Other
    models have rows of their own. Ours."""
    datasets: dict[str, Literal["sst2", "emotion", "chat"]] = {}
    """The paper's data set by an id under `datasets` that stands in its place, where its name does not tell; conversations
    always stand for Chat-Backdoor. Ours."""
    further_defenses: Ids = []
    """Ids in `grid.defenses` with columns of their own in Tables 1 to 3 and 9, beside the paper's defenses. The page of
    `snakemake paper` holds them against our goal: 2 points of attack success and 1 of clean accuracy from the clean-tuned model.
    Ours."""
    reasons: dict[str, Line] = {}
    """Why a claim of the paper does or does not hold in this run: a sentence by the claim's id, printed below it on the page
    of `snakemake paper`. Ids are `lowest_`, `accuracy_kept_` and `accuracy_above_` with `sst2`, `emotion` or `chat`; `adaptive`,
    `both_lowest_classification`, `both_lowest_chat`, `merge_methods`, `merge_keeps`, `merge_loses`, `little_more_time`,
    `more_data`, `better_than_external_emotion`, `better_than_external_chat`; and `goal_` with one of `further_defenses` and a
    data set, such as `goal_mine_sst2`. Ours."""

    @model_validator(mode="after")
    def _reasons_are_for_claims(self) -> "PaperNames":
        known = [*CLAIMS, *(f"goal_{defense}_{data}" for defense in self.further_defenses for data in _DATA)]
        for name in self.reasons:
            if name not in known:
                hint = did_you_mean(name, known) or f"; claims: {', '.join(known)}"
                raise ValueError(f"reasons has '{name}', which is no claim{hint}")
        return self
