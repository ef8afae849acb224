"""Experiments beside the grid: the paper's figures 3 and 4 and its table 6."""

from typing import Annotated

from pydantic import AfterValidator, Field

from infoconflict.config.values import Ids, InnerShare, Share, SomeIds, Weight
from infoconflict.entries import Count, Entry, once
from infoconflict.providers import ProviderEntry


class CleanShareCurve(Entry):
    """ASR and CDA of merging defenses over the share of clean rows that the defender holds (paper, figure 3)."""

    defenses: Ids = []
    """Ids under `defenses`, of defenses with a merge; none: no curve. Ours: the paper shows its whole method."""
    shares: Annotated[list[Share], Field(min_length=1), AfterValidator(once)] = [0.05, 0.1, 0.2, 0.5, 1.0]
    """Values in place of `clean_share.share`; a point at that share is the cell itself. Paper, section 5.4: from 0.05 to
    1; the steps between are ours."""
    models: SomeIds | None = None
    """Ids under `models`; null: all of the grid. Ours."""
    datasets: SomeIds | None = None
    """Ids under `datasets`; null: all of the grid. Paper: Emotion and Chat-Backdoor."""
    attacks: SomeIds | None = None
    """Ids under `attacks`; null: all of the grid. Paper: CBA and DTBA."""


class Direct(Entry):
    """An external language model that is asked the task itself, zero-shot (paper, figure 4)."""

    provider: ProviderEntry
    """Who is asked."""
    datasets: SomeIds
    """Ids under `datasets`, of the grid's, whose clean test rows are asked. Paper: Emotion and Chat-Backdoor."""
    attacks: Ids = []
    """Ids under `attacks`, of the grid's, whose triggered test rows are asked as well. Ours: none."""
    runs: Count = 1
    """How often each row is asked, every time with a random state of its own. Ours; the paper asks five times."""


class RoleSwap(Entry):
    """What a merge keeps of two models that know clean or backdoor rows, many or few (paper, section 6.1, table 6)."""

    merges: Ids = []
    """Ids under `merges`; none: no experiment."""
    t: Weight = 0.5
    """Weight of the second model, in place of the merges' own. Ours: the paper gives none, Lethe's code has 0.5."""
    small_share: InnerShare = 0.1
    """Share of the clean or of the backdoor rows that stands for few. Paper, table 6."""
    rows: Count | None = None
    """Clean training rows that stand for all; null: the whole training split. Ours."""
    models: SomeIds | None = None
    """Ids under `models`; null: all of the grid. Ours: the paper does not name its model."""
    datasets: SomeIds | None = None
    """Ids under `datasets`; null: all of the grid with labels. Paper: Emotion."""
    attacks: SomeIds | None = None
    """Ids under `attacks`; null: all of the grid that poisoned rows alone plant. Ours: the paper does not name its attack."""
