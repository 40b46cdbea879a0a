"""One trial, or some packed together, from begin to result in the ledger; for a Ray worker and for `gapctl train`."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from gapctl.data.feed import TrialData
from gapctl.ledger import Ledger, Result
from gapctl.plan.trials import Trial
from gapctl.sweep.machine_log import MachineLog
from gapctl.training.hardware import hardware, memory, versions
from gapctl.training.machine import Machine
from gapctl.training.member import Member, Progress
from gapctl.training.precision import resolve_precision
from gapctl.training.run import TrainingRun


class PackWork:
    """Trains trials and writes them down: `advance` until all their reports say `done`.

    `threads` is fixed for a trial, so that sums are taken in the same order wherever it runs; `gpu` allows one.
    """

    def __init__(self, trials: Sequence[Trial], data: TrialData, runs: str, *, threads: int, gpu: bool) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._trials = trials
        self._folders = [Ledger(runs).trial(trial.id) for trial in trials]
        members = []
        for trial, folder in zip(trials, self._folders, strict=True):
            folder.begin(trial)
            members.append(Member(trial.config, trial.seed, data, folder, self._device))
        self._run = TrainingRun(members, self._device)
        self._machine = Machine(self._device, threads)
        self._machine_logs = [
            MachineLog(folder, member.samples_seen) for folder, member in zip(self._folders, members, strict=True)
        ]
        self._finished: set[str] = set()

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Trains for about `seconds` and reports; a trial's last report comes after its result is in the ledger."""
        progress = self._run.advance(seconds)
        self._log_machine(progress)
        reports = []
        for place, (trial, found) in enumerate(zip(self._trials, progress, strict=True)):
            if trial.id in self._finished:
                continue
            if found.done:
                self._finish(place)
            reports.append({"trial": trial.id, **asdict(found)})
        return reports

    @property
    def unfinished(self) -> list[Trial]:
        """The trials whose results are not in the ledger yet."""
        return [trial for trial in self._trials if trial.id not in self._finished]

    def interrupt(self) -> None:
        """Saves the checkpoints of all that is not finished."""
        self._run.save()
        for trial, folder in zip(self._trials, self._folders, strict=True):
            if trial.id not in self._finished:
                folder.rest()

    def _log_machine(self, progress: Sequence[Progress]) -> None:
        """Written down with evaluations only, so that a ledger far away is not written to every few seconds."""
        beside = zip(self._trials, self._run.members, self._machine_logs, progress, strict=True)
        in_training = [(member, log, found) for trial, member, log, found in beside if trial.id not in self._finished]
        measures = self._machine.look(at_once=any(found.done for _, _, found in in_training))
        for member, log, found in in_training:
            if measures is not None:
                log.add(found.samples_seen, member.seconds, measures)
            if found.rows or found.done:
                log.keep()

    def _finish(self, place: int) -> None:
        trial, member = self._trials[place], self._run.members[place]
        precision = resolve_precision(trial.config.train.precision, self._device)
        result = Result(
            trial=trial.id,
            metrics=member.final_metrics(),
            samples_seen=member.samples_seen,
            seconds=round(member.seconds, 3),
            versions=versions(),
            hardware={**hardware(self._device, precision), "packed": member.packed, **memory(self._device)},
        )
        self._folders[place].finish(result, member.weights())
        self._finished.add(trial.id)


def finished_report(result: Result) -> dict[str, Any]:
    """The last report of a trial whose result is in the ledger."""
    seen, loss = result.samples_seen, result.metrics.get("train/loss", math.nan)
    progress = Progress(seen, seen, samples_per_second=0.0, loss=loss, rows=(), done=True)
    return {"trial": result.trial, **asdict(progress)}
