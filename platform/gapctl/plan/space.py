"""The room that a plan takes on disks: checkpoints of what trains, weights and records of all, MLflow's rows."""

import heapq
from collections.abc import Sequence
from typing import Final, NamedTuple

from gapctl.plan.trials import Trial
from gapctl.plan.weights import parameters
from gapctl.spec.presets import PRESETS

CHECKPOINTS: Final = 3
"""Of a trial at a time: the two that are kept, and the one that is being written."""
CHECKPOINT_BYTES: Final = 16
"""A weight, its float32 master and AdamW's two moments."""
WEIGHT_BYTES: Final = 4
RECORD_BYTES: Final = 200_000
"""History, notes on the machine, result and configuration of one trial."""
REPORT_BYTES: Final = 3_000_000
MLFLOW_BYTES: Final = 300_000
"""Of one trial's run in MLflow's database; the empty tables and a copy of the report come on top."""
RAY_BYTES: Final = 500_000_000
"""A session's logs, and shared arrays that find no room in shared memory."""


class Space(NamedTuple):
    """Bytes that the ledger, MLflow's database with its files, and Ray's temporary folder take."""

    ledger: float
    mlflow: float
    ray: float


def space_of(trials: Sequence[Trial], at_once: int) -> Space:
    """What training these, `at_once` at a time, leaves behind and needs meanwhile; estimated rather high."""
    sizes = [parameters(PRESETS[trial.config.model.preset], trial.config.model.embed_dim) for trial in trials]
    kept = sum(WEIGHT_BYTES * size + RECORD_BYTES for size in sizes) + REPORT_BYTES
    meanwhile = CHECKPOINTS * CHECKPOINT_BYTES * sum(heapq.nlargest(at_once, sizes))
    mlflow = MLFLOW_BYTES * len(trials) + 2 * REPORT_BYTES
    return Space(float(kept + meanwhile), float(mlflow), float(RAY_BYTES))
