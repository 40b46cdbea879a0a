"""Which run of MLflow shows which trial: a note beside the ledger, so that a report links to runs without MLflow.

Importing MLflow takes longer than judging a sweep. The note is as old as the last writing of MLflow.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from pydantic import TypeAdapter

from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.spec.secrets import without_password
from gapctl.tracking.page import run_address
from gapctl.tracking.uri import database_file, is_server


@dataclass(frozen=True)
class Shown:
    """Where the trials of a sweep are shown: MLflow's address, the experiment, and each trial's run."""

    uri: str
    experiment: str
    runs: dict[str, str]

    @property
    def pages(self) -> dict[str, str]:
        """Each trial's page, below MLflow's address."""
        return {trial: run_address(self.experiment, run) for trial, run in self.runs.items()}


_NOTE: Final = TypeAdapter(Shown)


def note_shown(ledger: Ledger, sweep_name: str, uri: str, experiment: str, runs: Mapping[str, str]) -> None:
    """Adds to the note, or begins it anew where MLflow is another; a ledger that cannot be written goes without."""
    before = shown_in(ledger, sweep_name)
    here = without_password(uri)
    kept = before.runs if before is not None and (before.uri, before.experiment) == (here, experiment) else {}
    found = Shown(here, experiment, {**kept, **runs})
    if found == before:
        return
    try:
        ledger.keep_shown(sweep_name, (json.dumps(asdict(found), indent=1, sort_keys=True) + "\n").encode())
    except WorkError:
        return


def shown_in(ledger: Ledger, sweep_name: str) -> Shown | None:
    """What was noted, or None where nothing was, or where the database that it names is gone."""
    content = ledger.shown(sweep_name)
    try:
        found = None if content is None else _NOTE.validate_json(content)
    except ValueError:
        return None
    if found is None or is_server(found.uri):
        return found
    file = database_file(found.uri)
    return found if file is None or file.exists() else None
