"""What the ledger shows of a sweep while it goes on: who trains what since when, and what is done."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from drill.processes import runs
from gapctl.errors import WorkError
from gapctl.io.files import Folder
from gapctl.ledger import Lease, Ledger
from gapctl.ledger.json_files import RESULT_FILE
from gapctl.ledger.lease import LEASE_FILE, parse_lease

LOOK_SECONDS = 0.2


@dataclass
class Seen:
    """Of one trial: its holders in their order, the lease that lies there now, and its result as it first appeared."""

    holders: list[str] = field(default_factory=list)
    lease: Lease | None = None
    result: bytes | None = None
    finished_twice: bool = False


class Watch:
    """Looks at the ledger five times a second in a thread of its own; times are this machine's clock."""

    def __init__(self, root: str, trial_ids: Sequence[str]) -> None:
        self._ledger, self._folder = Ledger(root), Folder(root)
        self.trials = {trial_id: Seen() for trial_id in trial_ids}
        self._standardise_by = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    @property
    def finished(self) -> int:
        """How many trials have a result."""
        return sum(seen.result is not None for seen in self.trials.values())

    def in_training(self) -> dict[str, Lease]:
        """The leases of living processes, by trial."""
        found = {trial_id: seen.lease for trial_id, seen in self.trials.items() if seen.result is None}
        return {trial_id: lease for trial_id, lease in found.items() if lease is not None and runs(lease.pid)}

    def begun_since(self, moment: float) -> bool:
        """Whether any trial was taken up, for the first time or again, after that second."""
        leases = [seen.lease for seen in self.trials.values()]
        return any(lease is not None and lease.taken > moment for lease in leases)

    def unsaved_seconds(self, trial_id: str) -> float:
        """How long ago a trial's last checkpoint was written, or its training begun: what would be lost now."""
        lease = self.trials[trial_id].lease
        names = self._folder.names(f"{trial_id}/checkpoints", keep=lambda name: name.endswith(".pt"))
        saved = [self._folder.modified(f"{trial_id}/checkpoints/{name}") or 0.0 for name in names]
        return time.time() - max([lease.taken if lease else time.time(), *saved])

    def end(self) -> None:
        """Looks once more and stops."""
        self._standardise_by.set()
        self._thread.join(timeout=120)
        self._look()

    def _look_on(self) -> None:
        while not self._standardise_by.wait(LOOK_SECONDS):
            try:
                self._look()
            except WorkError:
                continue  # the ledger is away for now

    def _look(self) -> None:
        ids = list(self.trials)
        for trial_id, content in zip(ids, self._ledger.contents(ids, LEASE_FILE), strict=True):
            if not isinstance(content, WorkError):
                self._note_lease(self.trials[trial_id], parse_lease(content))
        for trial_id, content in zip(ids, self._ledger.contents(ids, RESULT_FILE), strict=True):
            if isinstance(content, bytes):
                self._note_result(self.trials[trial_id], content)

    def _note_lease(self, seen: Seen, lease: Lease | None) -> None:
        if lease is not None and lease.holder not in seen.holders:
            seen.holders.append(lease.holder)
            seen.finished_twice |= seen.result is not None and lease.samples_seen > 0
        seen.lease = lease

    def _note_result(self, seen: Seen, content: bytes) -> None:
        if seen.result is None:
            seen.result = content
        seen.finished_twice |= content != seen.result
