"""What the ledger says of one trial, as MLflow will show it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result, TrialFolder

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
POSITION = ("samples_seen", "seconds")
SYSTEM = "system/"
"""What MLflow's pages show as metrics of the system."""
SPEED = f"{SYSTEM}samples_per_second"
MEMORY = {"memory_mb": "system/memory_usage_megabytes", "gpu_memory_mb": "system/gpu_memory_usage_megabytes"}
"""A result's hardware, and what it is called there."""


class Row(NamedTuple):
    """One evaluation: pairs seen, seconds of work until then, and the metrics that are numbers."""

    samples_seen: int
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Story:
    """A trial that has begun: when (seconds since 1970), how long it worked, its evaluations, and what became of it.

    `work` has how fast it was trained and what it asked of its machine; the ledger may know less of that than of the
    rest.
    """

    began: float
    seconds: float
    rows: tuple[Row, ...]
    status: Status
    failure: str | None
    trial_yaml: str
    work: tuple[Row, ...] = ()


def story_of(ledger: Ledger, trial_id: str, *, running: bool | None = None) -> Story | None:
    """Reads a trial's folder; None where the trial has not begun.

    `running` is what the caller knows of the trial's process; where it knows nothing, the last sign of life decides.
    A damaged folder is a failure whose reason is the damage.
    """
    folder = ledger.trial(trial_id)
    trial_yaml = folder.trial_yaml()
    if trial_yaml is None:
        return None
    began = folder.began() or time.time()
    try:
        return _read(folder, trial_yaml, began, running)
    except WorkError as damage:
        return Story(began, 0.0, (), "FAILED", str(damage), trial_yaml)


def _read(folder: TrialFolder, trial_yaml: str, began: float, running: bool | None) -> Story:
    rows, result = _rows(folder), folder.result()
    seconds = rows[-1].seconds if rows else 0.0
    work = (*_speeds(rows), *_machine(folder, result))
    if result is not None:
        return Story(began, result.seconds, rows, "FINISHED", None, trial_yaml, work)
    if running:
        return Story(began, seconds, rows, "RUNNING", None, trial_yaml, work)
    if (failure := folder.failure()) is not None:
        return Story(began, seconds, rows, "FAILED", _last_line(failure), trial_yaml, work)
    alive = running is None and folder.samples_being_trained() is not None
    return Story(began, seconds, rows, "RUNNING" if alive else "KILLED", None, trial_yaml, work)


def _rows(folder: TrialFolder) -> tuple[Row, ...]:
    history = folder.history()
    if history is None:
        return ()
    return tuple(_row(row) for row in history.sort("samples_seen").iter_rows(named=True))


def _row(found: Mapping[str, float], prefix: str = "") -> Row:
    measured = {key: value for key, value in found.items() if key not in POSITION and _is_number(value)}
    return Row(
        int(found["samples_seen"]),
        float(found["seconds"]),
        {f"{prefix}{key}": float(value) for key, value in measured.items()},
    )


def _speeds(rows: Sequence[Row]) -> list[Row]:
    """Pairs trained on per second of work, evaluation included, between evaluations."""
    return [
        Row(after.samples_seen, after.seconds, {SPEED: (after.samples_seen - before.samples_seen) / seconds})
        for before, after in pairwise(rows)
        if (seconds := after.seconds - before.seconds) > 0
    ]


def _machine(folder: TrialFolder, result: Result | None) -> list[Row]:
    """What the trial noted of its machine; where it noted nothing, the memory that its process held in the end."""
    noted = [_row(row, SYSTEM) for row in folder.machine_rows()]
    if noted or result is None:
        return noted
    memory = {name: float(result.hardware[key]) for key, name in MEMORY.items() if key in result.hardware}
    return [Row(result.samples_seen, result.seconds, memory)] if memory else []


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "failed without a message"
