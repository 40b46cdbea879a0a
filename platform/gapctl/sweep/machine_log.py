"""A trial's record of its machine in the ledger: rows beside its history that nothing is computed from."""

from collections.abc import Mapping

from gapctl.ledger import TrialFolder


class MachineLog:
    """Goes on with the rows that an earlier attempt left, as far as the training goes on from there."""

    def __init__(self, folder: TrialFolder, samples_seen: int) -> None:
        self._folder = folder
        self._rows = [row for row in folder.machine_rows() if row["samples_seen"] <= samples_seen]
        self._kept = len(self._rows)

    def add(self, samples_seen: int, seconds: float, measures: Mapping[str, float]) -> None:
        """Takes note of what was measured after `seconds` of work."""
        self._rows.append({"samples_seen": samples_seen, "seconds": seconds, **measures})

    def keep(self) -> None:
        """Writes the rows, if there are new ones."""
        if len(self._rows) > self._kept:
            self._folder.save_machine(self._rows)
            self._kept = len(self._rows)
