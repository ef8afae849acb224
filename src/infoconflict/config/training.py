"""How models are tuned, and on which rows."""

from typing import Annotated

from pydantic import Field

from infoconflict.config.values import Share
from infoconflict.entries import Count, Entry, Line
from infoconflict.tunings import Training


class BackdooredTraining(Training):
    """How the backdoored model is tuned, and the clean-tuned model that it is compared with."""

    rows: Count | dict[str, Count] | None = None
    """Clean training rows that the attacker starts from, one number or one by data set; null, or no number: all. Ours."""

    def rows_of(self, dataset: str) -> int | None:
        """Return the number of rows for one data set."""
        return self.rows.get(dataset) if isinstance(self.rows, dict) else self.rows


class TrainingStages(Entry):
    """The two models that are tuned."""

    backdoored: BackdooredTraining = BackdooredTraining()
    """The attacker's model; the clean-tuned model is tuned in the same way, without the poison."""
    conflict: Training = Training()
    """The defender's conflict model, tuned on the clean share."""


class Statistics(Entry):
    """Clean texts on which attacks by editing learn what a layer should go on doing (the second moment of its inputs)."""

    texts: Line | None = None
    """File with one text per line, from the working directory; null: the prompts of the data set's training rows. Ours: the
    code of ROME, MEMIT and BadEdit has 100,000 articles of Wikipedia."""
    rows: Count | None = 2000
    """Texts at most, from the beginning; null: all. Twenty tokens per unit of a feed-forward layer and more make a good
    estimate. Ours."""


class CleanShare(Entry):
    """Clean training rows that the defender holds, stratified by label and drawn by the seed."""

    share: Share = 0.1
    """Share of the clean training rows. Paper, section 5.4 (figure 3 goes from 0.05 to 1)."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of these rows that is kept from tuning and decides on `t: auto`; 0 only where every t is a number. Ours."""
