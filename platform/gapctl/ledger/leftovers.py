"""What lies in a ledger and nobody needs: what killed writers had half written, checkpoints of finished trials."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gapctl.ledger.files import Folder

Kind = Literal["half-written file", "checkpoint of a finished training", "final weights"]
PART: Final = re.compile(r"\..+\.[0-9a-f]{8}\.part")
CHECKPOINT: Final = re.compile(r"\d+\.pt")
WEIGHTS: Final = "final.pt"
ABANDONED_SECONDS: Final = 900.0
"""A writer that lives adds to its file more often, whichever machine it is on and however slow the disk."""


@dataclass(frozen=True)
class Leftover:
    """A file below the ledger's root, and what is gained where it is deleted."""

    name: str
    kind: Kind
    bytes: int


def leftovers(
    runs: Folder, trial_ids: Sequence[str], finished: set[str], *, weights_of: Sequence[str] = ()
) -> list[Leftover]:
    """What may go of these trials: of unfinished ones nothing but what was half written a while ago.

    Of those in `weights_of`, if they are finished, the final weights too.
    """
    found = list(_parts(runs, ""))
    for trial_id in trial_ids:
        found += _parts(runs, trial_id)
        found += _parts(runs, f"{trial_id}/checkpoints")
        if trial_id in finished:
            found += _checkpoints(runs, trial_id, weights=trial_id in weights_of)
    return found


def _parts(runs: Folder, under: str) -> Iterator[Leftover]:
    for entry in runs.entries(under, PART):
        if entry.age is not None and entry.age > ABANDONED_SECONDS:
            yield Leftover(f"{under}/{entry.name}".lstrip("/"), "half-written file", entry.bytes)


def _checkpoints(runs: Folder, trial_id: str, *, weights: bool) -> Iterator[Leftover]:
    under = f"{trial_id}/checkpoints"
    for entry in runs.entries(under, CHECKPOINT):
        yield Leftover(f"{under}/{entry.name}", "checkpoint of a finished training", entry.bytes)
    if weights:
        for entry in runs.entries(under, re.compile(re.escape(WEIGHTS))):
            yield Leftover(f"{under}/{entry.name}", "final weights", entry.bytes)
