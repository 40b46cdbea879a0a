"""A ledger as one analysis reads it: whatever is made of it rests on the same results, and each is read once."""

from collections.abc import Sequence

from gapctl.errors import WorkError
from gapctl.ledger.declaration import Declaration
from gapctl.ledger.ledger import Ledger
from gapctl.ledger.result import Result


class AsRead(Ledger):
    """Keeps what it read of results and declarations: a report tells of no more trials than the verdicts beside it."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._results: dict[str, Result | WorkError | None] = {}
        self._declarations: dict[str, Declaration | None] = {}

    def results(self, trial_ids: Sequence[str]) -> list[Result | WorkError | None]:
        """As `Ledger.results`."""
        new = [trial_id for trial_id in dict.fromkeys(trial_ids) if trial_id not in self._results]
        self._results.update(zip(new, super().results(new), strict=True))
        return [self._results[trial_id] for trial_id in trial_ids]

    def result(self, trial_id: str) -> Result | None:
        """As `Ledger.result`."""
        (found,) = self.results([trial_id])
        if isinstance(found, WorkError):
            raise found
        return found

    def declaration(self, sweep_name: str) -> Declaration | None:
        """As `Ledger.declaration`."""
        if sweep_name not in self._declarations:
            self._declarations[sweep_name] = super().declaration(sweep_name)
        return self._declarations[sweep_name]
