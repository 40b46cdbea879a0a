"""What must hold when a drilled sweep has ended; each function returns what does not, a line each."""

import json
import math
import subprocess
import sys
from collections import Counter
from typing import Any, Final

from drill.drilled_sweep import DrilledSweep
from drill.local_cluster import LocalCluster
from gapctl.ledger import Ledger
from gapctl.ledger.json_files import RESULT_FILE
from gapctl.ledger.lease import LEASE_FILE
from gapctl.ledger.trial import FAILURE, HISTORY

MEASURED: Final = frozenset({"seconds", "data/wait_share"})
"""Columns of a history that no two runs of a trial have alike."""

RESERVED: Final = """
import json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
groups = ray.util.placement_group_table().values()
whole, free = ray.cluster_resources(), ray.available_resources()
taken = {name: whole.get(name, 0.0) - free.get(name, 0.0) for name in ("CPU", "GPU")}
held = [f"placement group {group['placement_group_id']}" for group in groups if group["state"] != "REMOVED"]
print(json.dumps(held + [f"{number:g} {name}" for name, number in taken.items() if number]))
"""


def in_the_ledger(drilled: DrilledSweep, quiet: DrilledSweep) -> list[str]:
    """Every trial done with the quiet run's numbers, to the byte, and nobody's."""
    found, expected = Ledger(drilled.runs), Ledger(quiet.runs)
    broken = []
    for name in (LEASE_FILE, FAILURE):
        left = [trial for trial, content in zip(drilled.ids, found.contents(drilled.ids, name), strict=True) if content]
        broken += [f"{trial} has a {name} still" for trial in left]
    for trial in drilled.ids:
        if _numbers(found, trial) != _numbers(expected, trial):
            broken.append(f"{trial} has other numbers than in the quiet run, or none")
    return broken


TOLERANCE: Final = 0.001
"""How far a metric may be off, relative to values above 1, where the number of workers was another for a while.

Sums are then taken in another order, see `SHARED_SWEEP`.
"""


def in_the_ledger_of_workers(drilled: DrilledSweep, quiet: DrilledSweep) -> tuple[list[str], int]:
    """As `in_the_ledger`, but within a tolerance for a trial whose number of workers changed; how many had one."""
    found, expected = Ledger(drilled.runs), Ledger(quiet.runs)
    broken, exact = in_the_ledger(drilled, quiet), 0
    for trial in drilled.ids:
        result, other = found.result(trial), expected.result(trial)
        if result is None or other is None:
            continue
        if result.hardware["stretches"] == other.hardware["stretches"]:
            exact += 1
            continue
        strict = f"{trial} has other numbers than in the quiet run, or none"
        broken = [line for line in broken if line != strict]
        for name, value in other.metrics.items():
            off = abs(result.metrics.get(name, math.inf) - value)
            if value == value and not off <= TOLERANCE * max(1.0, abs(value)):
                broken.append(f"{trial}: {name} is {result.metrics.get(name)}, in the quiet run {value}")
    return broken, exact


def in_the_tracking_server(drilled: DrilledSweep, uri: str) -> list[str]:
    """After `gapctl track sync`: one finished run a trial with the ledger's numbers, and nothing left to bring over."""
    said, again = drilled.sync(), drilled.sync()
    broken = [] if f"{len(drilled.ids)} unchanged" in again else [f"two `track sync` said: {said}; then {again}"]
    ledger, shown = Ledger(drilled.runs), _shown(drilled.name, uri)
    counts = Counter(run.data.tags["gapctl.trial"] for run in shown)
    broken += [f"{trial} has {count} runs in MLflow" for trial, count in counts.items() if count != 1]
    broken += [f"{trial} has no run in MLflow" for trial in set(drilled.ids) - set(counts)]
    for run in shown:
        trial = run.data.tags["gapctl.trial"]
        result = ledger.result(trial)
        metrics = {} if result is None else {name: value for name, value in result.metrics.items() if value == value}
        if run.info.status != "FINISHED" or {name: run.data.metrics.get(name) for name in metrics} != metrics:
            broken.append(f"{trial} is {run.info.status} in MLflow, or has other numbers there")
    return broken


def reserved(cluster: LocalCluster) -> list[str]:
    """Nothing of the cluster is reserved for a sweep that has ended."""
    done = subprocess.run(
        [sys.executable, "-c", RESERVED, cluster.address],
        capture_output=True,
        text=True,
        env=cluster.environment,
        timeout=300,
        check=False,
    )
    if done.returncode:
        return [f"the cluster could not be asked what is reserved: {done.stderr.strip()[-300:]}"]
    return [f"still reserved: {each}" for each in json.loads(done.stdout.splitlines()[-1])]


def _numbers(ledger: Ledger, trial: str) -> tuple[str, str]:
    """A trial's metrics as its result spells them, and its history but for times."""
    (content,) = ledger.contents([trial], RESULT_FILE)
    history = ledger.trial(trial).read_table(HISTORY)
    if not isinstance(content, bytes) or history is None:
        return "", trial
    kept = [name for name in history.columns if name not in MEASURED]
    return json.dumps(json.loads(content)["metrics"]), history.select(kept).write_csv()


def _shown(name: str, uri: str) -> list[Any]:
    """The runs of a sweep's trials, as MLflow has them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id], max_results=5000) if experiment is not None else []
    return [run for run in found if "gapctl.trial" in run.data.tags]
