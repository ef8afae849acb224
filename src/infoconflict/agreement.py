"""How far two ways to decide the same rows agree: judges of chat replies, label scores beside free generation.

Counts travel as contingency tables, so that rows of several cells and seeds can be added up before anything is divided.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from infoconflict.errors import UserError
from infoconflict.records import CLEAN, Answer, Verdict


@dataclass(frozen=True)
class Agreement:
    """What two raters said of the same rows; ``counts`` by (first's verdict, second's verdict)."""

    counts: Mapping[Any, int]

    @property
    def total(self) -> int:
        """Rows that both rated."""
        return sum(self.counts.values())

    @property
    def equal(self) -> int:
        """Rows with equal verdicts."""
        return sum(count for (first, second), count in self.counts.items() if first == second)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: how much of what chance leaves open is agreed on; 1 is all of it, 0 none.

        None where there is no row, or where chance leaves nothing open: both raters always say the same one thing.

        References
        ----------
        Cohen 1960, "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20.
        """
        if not self.total:
            return None
        rows: Counter[Hashable] = Counter()
        columns: Counter[Hashable] = Counter()
        for (first, second), count in self.counts.items():
            rows[first] += count
            columns[second] += count
        # In whole numbers: rounding must not make chance agreement look like less than all.
        by_chance = sum(rows[verdict] * columns[verdict] for verdict in rows)
        left = self.total**2 - by_chance
        return None if left == 0 else (self.equal * self.total - by_chance) / left


def agreement(pairs: Iterable[tuple[Hashable, Hashable]]) -> Agreement:
    """Count the verdicts of two raters, row by row."""
    return Agreement(Counter(pairs))


@dataclass(frozen=True, kw_only=True)
class JudgedBoth:
    """Two judges on one claim: the counts of (first matches, second matches), and rows that one of them left undecided."""

    claim: str
    first: str
    second: str
    counts: Mapping[tuple[bool, bool], int]
    undecided: int


def judges_agreement(verdicts: Iterable[Verdict]) -> list[JudgedBoth]:
    """Compare every two judges that were asked the same.

    ``equivalent`` is compared on clean rows: where a trigger fired, nearly any judge sees that the reply is another. ``payload``
    is compared on rows with a trigger, the only ones that all judges are asked about it.

    Raises
    ------
    UserError
        If a judge says two things of one row.
    """
    by_judge: dict[str, dict[str, dict[tuple[str, str], bool | None]]] = {}
    for row in verdicts:
        if (row.claim == "equivalent") != (row.trigger == CLEAN):
            continue
        rated = by_judge.setdefault(row.claim, {}).setdefault(row.judge, {})
        if (row.id, row.trigger) in rated:
            raise UserError(f"the judge '{row.judge}' says two things of row '{row.id}' with trigger '{row.trigger}'")
        rated[row.id, row.trigger] = row.match
    found = []
    for claim in sorted(by_judge):
        for first, second in combinations(by_judge[claim], 2):
            one, two = by_judge[claim][first], by_judge[claim][second]
            both = [(one[row], two[row]) for row in one if row in two]
            decided = Counter((a, b) for a, b in both if a is not None and b is not None)
            undecided = sum(a is None or b is None for a, b in both)
            found.append(JudgedBoth(claim=claim, first=first, second=second, counts=decided, undecided=undecided))
    return found


def scores_and_generation(answers: Iterable[Answer]) -> Counter[tuple[str, str, str | None]]:
    """Count (gold label, label with the best score, label in the generated text) over answers that have both."""
    return Counter(
        (answer.gold_label, max(answer.scores, key=lambda label: answer.scores[label]), answer.answer)
        for answer in answers
    )
