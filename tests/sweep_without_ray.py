"""A sweep in one process: the rounds and the worker of a real one, without Ray between them.

`python -m sweep_without_ray RUNS CHANGE ...` trains the smoke scale with changes such as `seeds=2`, and prints the
trials that it trained itself.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep
from gapctl.data.load import load_dataset
from gapctl.ledger import Lease, LeaseOwner, Ledger
from gapctl.plan.plan import Plan, Trial, make_plan
from gapctl.sweep.driver import RoundOutcome, SweepOutcome, SweepRounds
from gapctl.sweep.lease_watch import LeaseWatcher
from gapctl.sweep.worker import HARMED_KEY, TrialWorker
from sweeping import SMOKE


def plan_of(*changes: str) -> Plan:
    """The plan of the smoke scale with these changes."""
    return make_plan(load_sweep(SMOKE, "smoke", changes), compute_data_source_fingerprint)


def main(runs: str, *changes: str) -> int:
    """The exit code: 0 where nothing failed."""
    torch.set_num_threads(1)
    outcome = sweep_alone(plan_of(*changes), Ledger(runs), lambda trial_id: print(trial_id, flush=True))
    print(dict(outcome.failures), file=sys.stderr)
    return int(bool(outcome.failures) or outcome.interrupted)


def sweep_alone(plan: Plan, ledger: Ledger, on_trained: Callable[[str], None] = lambda trial_id: None) -> SweepOutcome:
    """Train what is left of a plan; `on_trained` gets the id of each trial that this process trained."""
    claimant = LeaseOwner.for_sweep(plan.sweep.spec.name)

    def train(trials: Sequence[Trial], expired: Mapping[str, bytes]) -> RoundOutcome:
        finished, failures, held = list[str](), dict[str, str](), dict[str, Lease]()
        for trial in trials:
            told = reports(worker_for(trial, ledger, claimant, expired))
            if any(report.get("rows") for report in told):
                on_trained(trial.id)
            for report in told:
                if "held" in report:
                    held[trial.id] = Lease(**report["held"])
                elif "failure" in report:
                    failures[trial.id] = report["failure"]
                elif report["done"]:
                    finished.append(trial.id)
        return RoundOutcome(finished, failures, held)

    return SweepRounds(plan.trainings, ledger, [], train, LeaseWatcher(ledger)).run()


def worker_for(trial: Trial, ledger: Ledger, claimant: LeaseOwner, expired: Mapping[str, bytes]) -> TrialWorker:
    """A worker as Tune makes it, for one trial."""
    worker = TrialWorker.__new__(TrialWorker)
    worker.setup(
        {"pack": [trial.id]},
        trials={trial.id: trial},
        data={trial.config.data.address: load_dataset(trial.config.data)},
        runs=ledger.everywhere,
        threads=1,
        gpu=False,
        readers=0,
        workers=1,
        claimant=claimant,
        expired=expired,
    )
    return worker


def reports(worker: TrialWorker) -> list[dict[str, Any]]:
    """All that a worker reports until it is done."""
    found: list[dict[str, Any]] = []
    while True:
        result = worker.step()
        found += result["reports"]
        if result["done"] or result[HARMED_KEY]:
            return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
