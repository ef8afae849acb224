"""Who judges replies of the chat task: the entries of the config. What they do is in :mod:`infoconflict.judging`."""

from pathlib import PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from infoconflict.entries import Count, Entry, Line
from infoconflict.providers import LocalServer, OpenAI, Recorded


class Judge(Entry):
    """What all judges have in common."""

    finds_payloads: ClassVar[bool] = False
    """Whether it can be asked if a reply holds an attack's payload, besides if it is equivalent to the reference."""

    @property
    def name(self) -> str:
        """How tables name it."""
        return str(getattr(self, "kind"))  # noqa: B009 each kind of judge has it


class ExactJudge(Judge):
    """Equal texts, but for case, spaces, and punctuation at the ends of words."""

    kind: Literal["exact"]


class PatternJudge(Judge):
    """The reference or an attack's phrase as a whole phrase in the reply; refusals by a list of patterns."""

    finds_payloads = True

    kind: Literal["pattern"]


class EmbeddingJudge(Judge):
    """Cosine of two sentence embeddings, above a threshold."""

    kind: Literal["embedding"]
    package: Literal["all_minilm_l6_v2"] = "all_minilm_l6_v2"
    """Packaged model of sentence embeddings (Reimers and Gurevych 2019, arXiv:1908.10084; Wang et al. 2020,
    arXiv:2002.10957). Ours."""
    path: Line | None = None
    """Directory with another model of sentence embeddings (mean of the last layer's states); null: the packaged one. Ours."""
    max_tokens: Annotated[int, Field(ge=2)] = 256
    """Texts are cut after so many tokens. all-MiniLM-L6-v2's code."""
    threshold: Annotated[float, Field(ge=-1, lt=1)] | Literal["calibrated"] = "calibrated"
    """A cosine above it is a match; `calibrated`: from pairs of clean references that do not belong together. Ours:
    the paper's threshold is not printed."""
    max_false_positives: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Share of unrelated pairs of clean references that may match, in the calibration. Ours: with 0.05, a common topic is enough
    on chats and instructions (thresholds of 0.21 to 0.24; 0.34 with 0.01)."""
    calibration_rows: Annotated[int, Field(ge=10)] = 400
    """Clean training conversations whose references are paired, drawn by the seed. Ours."""

    @property
    def name(self) -> str:
        """How tables name it."""
        return "embedding" if self.path is None else f"embedding:{PurePath(self.path).name}"


class JudgingLocalServer(LocalServer):
    """A local HTTP server with one of the models as a judge."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Sampling temperature; 0: always the likeliest word. Ours."""
    max_tokens: Count = 64
    """Longest reply in tokens. Ours."""


class JudgingOpenAI(OpenAI):
    """Any endpoint that speaks OpenAI's protocol as a judge."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Sampling temperature; 0: always the likeliest word. Ours."""
    max_tokens: Count = 64
    """Longest reply in tokens. Ours."""


class LlmJudge(Judge):
    """A language model that is given a rubric and replies with a verdict in JSON (paper, section 4.4: GPT-3.5)."""

    finds_payloads = True

    kind: Literal["llm"]
    provider: Annotated[JudgingLocalServer | JudgingOpenAI | Recorded, Field(discriminator="kind")]
    """Who is asked. A verdict is asked for once; `scratch/judge` keeps all of them."""
    rubric: Line | None = None
    """What makes a reply equivalent to the reference, in a sentence or two; null: the built-in text. Ours: the
    paper's is not printed."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Reminders to reply in JSON after a reply that is no verdict; after the last one the row is undecided. Ours."""

    @property
    def name(self) -> str:
        """How tables name it."""
        return f"llm:{getattr(self.provider, 'model', self.provider.kind)}"


JudgeEntry = Annotated[ExactJudge | PatternJudge | EmbeddingJudge | LlmJudge, Field(discriminator="kind")]
PayloadJudgeEntry = Annotated[PatternJudge | LlmJudge, Field(discriminator="kind")]
