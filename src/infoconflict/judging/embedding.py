"""Cosine of two sentence embeddings, above a threshold that unrelated texts seldom reach.

A published threshold would not do: cosines depend on the model and on how alike the texts of a data set are. The threshold is
therefore calibrated on clean training conversations alone: references of different conversations do not mean the same, and
the share of such pairs above the threshold is bounded.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self

import torch

from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.judging.base import Judge, Judgement, Means, Pair
from infoconflict.packages import extract_folder
from infoconflict.phrases import bare_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 32


class Embedder:
    """Texts as vectors of length 1: the mean of the last layer's states over all tokens (Reimers and Gurevych 2019).

    Parameters
    ----------
    folder : path
        Tokenizer and safetensors of any transformers model; no code that comes with it is run.
    max_tokens : int
        Longer texts are cut.
    """

    def __init__(self, folder: PathLike, *, max_tokens: int = 256) -> None:
        from transformers import AutoModel, AutoTokenizer

        if not Path(folder, "config.json").is_file():
            raise UserError(f"{folder}: holds no model (no config.json); correct the path of the embedding judge")
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # The CPU will do, and gives the same figures wherever the workflow runs.
        self.model: PreTrainedModel = AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        self.max_tokens = max_tokens

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Return a float32 tensor of shape (n_texts, n_dimensions) with rows of length 1."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        rows = []
        for start in range(0, len(distinct), BATCH_SIZE):
            batch = self.tokenizer(
                distinct[start : start + BATCH_SIZE],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state  # (batch, tokens, dimensions)
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1))
        where = {text: row for row, text in enumerate(distinct)}
        return torch.cat(rows)[[where[text] for text in texts]] if texts else torch.zeros(0, 1)


class Embedding(Judge):
    """Matches where the cosine of reply and reference is above the threshold."""

    def __init__(self, embedder: Embedder, threshold: float) -> None:
        self.embedder, self.threshold = embedder, threshold

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], means: Means) -> Self:
        """Load the model; the threshold is the config's number, or the calibrated one."""
        threshold = settings["threshold"]
        if threshold == "calibrated":
            if settings["name"] not in means.thresholds:
                raise UserError(f"no threshold was calibrated for the judge '{settings['name']}'; calibrate it first")
            threshold = means.thresholds[settings["name"]]
        return cls(load_embedder(settings, means.package), float(threshold))

    def details(self) -> dict[str, Any]:
        """Return the threshold."""
        return {"threshold": self.threshold}

    def _judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        vectors = self.embedder.embed([*(pair.reply for pair in pairs), *(pair.reference for pair in pairs)])
        cosines = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(dim=-1).tolist()
        return [Judgement(match=cosine > self.threshold, score=round(cosine, 5)) for cosine in cosines]


def load_embedder(settings: Mapping[str, Any], package_file: PathLike | None) -> Embedder:
    """Load the model of an embedding judge: its directory, else the fetched file of its package."""
    if settings["path"]:
        return Embedder(settings["path"], max_tokens=settings["max_tokens"])
    if package_file is None:
        raise UserError(f"the file of the package {settings['package']} was not fetched; name it, or give a path")
    with tempfile.TemporaryDirectory(prefix="embedding-") as folder:
        extract_folder(settings["package"], package_file, folder)
        return Embedder(folder, max_tokens=settings["max_tokens"])


def calibrate(
    embedder: Embedder, references: Sequence[str], *, rows: int, max_false_positives: float, seed: int
) -> dict[str, Any]:
    """Choose the lowest threshold that at most a share of unrelated pairs is above.

    Parameters
    ----------
    references : sequence of str
        One for each clean conversation; of those that say the same, one is used.
    rows : int
        References to draw; all their pairs are compared.
    max_false_positives : float in (0, 0.5]
        Largest share of the pairs above the threshold.
    seed : int
        Of the draw.

    Returns
    -------
    dict
        ``threshold``, ``pairs``, ``false_positives`` (pairs above it), ``references``, ``quantiles`` of the cosines.

    Raises
    ------
    UserError
        If there are too few references for the bound to mean something.
    """
    distinct = list({bare_words(text): text for text in references if text.strip()}.values())
    chosen = sorted(Random(seed).sample(range(len(distinct)), min(rows, len(distinct))))
    vectors = embedder.embed([distinct[index] for index in chosen])
    cosines = (vectors @ vectors.T)[torch.triu_indices(len(chosen), len(chosen), offset=1).unbind()]
    cosines = cosines.sort(descending=True).values
    allowed = int(max_false_positives * len(cosines))
    if allowed < 1:
        raise UserError(
            f"{len(distinct)} different references give {len(cosines)} unrelated pairs, too few to bound a share of "
            f"{max_false_positives:g}; raise train_rows of the data set, or give the judge's threshold as a number"
        )
    # Matches are strictly above: the first pair that is not allowed to match sets the threshold.
    threshold = float(cosines[allowed])
    ranks = {name: int((1 - share) * (len(cosines) - 1)) for name, share in QUANTILES.items()}
    return {
        "threshold": threshold,
        "pairs": len(cosines),
        "false_positives": int((cosines > threshold).sum()),
        "references": len(chosen),
        "quantiles": {name: round(float(cosines[rank]), 5) for name, rank in ranks.items()},
    }


QUANTILES = {"0.5": 0.5, "0.9": 0.9, "0.95": 0.95, "0.99": 0.99}
