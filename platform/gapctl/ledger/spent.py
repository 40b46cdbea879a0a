"""`runs/<sweep>.spent/<run>.json`: the time and money that each run of a sweep took, for limits that outlast a restart.

Each run writes a file of its own, so that none takes another's away.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from pydantic import TypeAdapter, with_config

from gapctl.errors import WorkError
from gapctl.ledger.json_document import AS_WRITTEN, parsed


@with_config(AS_WRITTEN)
@dataclass(frozen=True)
class RunSpent:
    """One run of `gapctl sweep`: when it began (seconds since 1970), its hours, and what its machines cost."""

    run: str
    scale: str
    began: float
    hours: float
    cost: float


class Spent(NamedTuple):
    """Hours and money together, of so many runs."""

    hours: float
    cost: float
    runs: int


_DOCUMENT: Final = TypeAdapter(list[RunSpent])


def spent_to_json(runs: Sequence[RunSpent]) -> bytes:
    """The file's content."""
    return (json.dumps([asdict(run) for run in runs], indent=1) + "\n").encode()


def spent_from_json(content: bytes, path: str) -> list[RunSpent]:
    """Reads the file's content; raises WorkError where it is damaged."""
    try:
        return parsed(_DOCUMENT, content)
    except ValueError as error:
        raise WorkError(
            f"{path}: damaged: {error}; expected what `gapctl sweep` wrote. Move it away, and lower the file's limits "
            "by what was spent: nothing else depends on it"
        ) from error


def together(runs: Sequence[RunSpent], scale: str) -> Spent:
    """What all runs of a scale spent."""
    mine = [run for run in runs if run.scale == scale]
    return Spent(sum(run.hours for run in mine), sum(run.cost for run in mine), len(mine))
