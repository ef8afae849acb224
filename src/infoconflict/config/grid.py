"""What is crossed with what."""

from pydantic import model_validator

from infoconflict.config.values import SomeIds
from infoconflict.entries import Entry, Line


class Skip(Entry):
    """Cells to leave out: all that match every key given here, by its id or by one of its ids."""

    model: str | SomeIds | None = None
    """Model of the cells; any if not given."""
    dataset: str | SomeIds | None = None
    """Data set of the cells; any if not given."""
    attack: str | SomeIds | None = None
    """Attack of the cells; any if not given."""
    defense: str | SomeIds | None = None
    """Defense of the cells, or a control by its name under `controls`; any if not given."""
    reason: Line
    """Why; the report prints it."""

    @model_validator(mode="after")
    def _names_something(self) -> "Skip":
        if not any((self.model, self.dataset, self.attack, self.defense)):
            raise ValueError("names no model, dataset, attack or defense and would leave out everything; name one")
        return self


class GridOptions(Entry):
    """What is crossed with what: every model, data set, attack, defense and seed."""

    models: SomeIds
    """Ids under `models`."""
    datasets: SomeIds
    """Ids under `datasets`."""
    attacks: SomeIds
    """Ids under `attacks`."""
    defenses: SomeIds
    """Ids under `defenses`."""
    skip: list[Skip] = []
    """Cells to leave out, each with a reason."""
