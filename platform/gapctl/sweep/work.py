"""One trial, or some packed together, from begin to result in the ledger; for a Ray worker and for `gapctl train`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import torch

from gapctl.data.load import Material
from gapctl.data.pairs.feed import Reader
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result, TrialFolder
from gapctl.plan.trials import Trial
from gapctl.sweep.machine_log import MachineLog
from gapctl.training.group import ALONE, Group
from gapctl.training.hardware import describe_workers, hardware, memory, training_device, versions
from gapctl.training.machine import Machine
from gapctl.training.member import Member, Progress
from gapctl.training.precision import resolve_precision
from gapctl.training.run import TrainingRun


class Work(Protocol):
    """Trials that are being trained, here or elsewhere."""

    @property
    def unfinished(self) -> list[Trial]:
        """The trials whose results are not in the ledger yet."""
        ...

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Trains for about `seconds` and reports."""
        ...

    def interrupt(self) -> None:
        """Saves the checkpoints of all that is not finished."""
        ...


class PackWork:
    """Trains trials and writes them down: `advance` until all their reports say `done`.

    `threads` is fixed for a trial, so that sums are taken in the same order wherever it runs; `gpu` says that one is
    reserved, and InputError that torch cannot use it.
    `readers` are the CPUs with which Ray Data reads pairs, 0 for a thread of this process. Of the workers in `group`,
    which train one trial together, the first writes. `folders` are those of the trials whose leases the caller has.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        data: Material,
        runs: str,
        *,
        threads: int,
        gpu: bool,
        readers: int = 0,
        group: Group = ALONE,
        folders: Mapping[str, TrialFolder] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.device = training_device(gpu=gpu)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._trials, self._group = trials, group
        ledger = Ledger(runs)
        self._folders = [(folders or {}).get(trial.id) or ledger.trial(trial.id) for trial in trials]
        members = []
        for trial, folder in zip(trials, self._folders, strict=True):
            if group.rank == 0:
                folder.begin(trial)
            initial = None if trial.parent is None else _weights_of(ledger, trial.parent)
            member = Member(trial.config, trial.seed, data, folder, self.device, initial=initial, leads=group.rank == 0)
            member.begin_stretch(describe_workers(self.device, group.size))
            members.append(member)
        self._run = TrainingRun(members, self.device, group, _reader(readers, group))
        self._machine = Machine(self.device, threads)
        self._machine_logs = [
            MachineLog(folder, member.samples_seen) for folder, member in zip(self._folders, members, strict=True)
        ]
        self._finished: set[str] = set()

    def advance(self, seconds: float, steps: int = 1) -> list[dict[str, Any]]:
        """Trains for about `seconds`, at least so many steps, and reports.

        A trial's last report comes after its result is in the ledger.
        """
        progress = self._run.advance(seconds, steps)
        if self._group.rank == 0:
            self._log_machine(progress)
        reports = []
        for place, (trial, found) in enumerate(zip(self._trials, progress, strict=True)):
            if trial.id in self._finished:
                continue
            if found.done:
                self._finish(place)
            saved = found.samples_seen if found.done else self._run.members[place].samples_saved
            reports.append({"trial": trial.id, "saved": saved, **asdict(found)})
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
        self._finished.add(trial.id)
        if not member.leads:
            return
        precision = resolve_precision(trial.config.train.precision, self.device)
        result = Result(
            trial=trial.id,
            metrics=member.final_metrics(),
            samples_seen=member.samples_seen,
            seconds=round(member.seconds, 3),
            versions=versions(),
            hardware={
                **hardware(self.device, precision),
                "packed": member.packed,
                "workers": self._group.size,
                "stretches": member.stretches,
                **memory(self.device),
            },
        )
        self._folders[place].finish(result, member.weights())


def _weights_of(ledger: Ledger, trial_id: str) -> bytes:
    """What a training begins with; raises WorkError where its parent is not done."""
    content = ledger.trial(trial_id).weights()
    if content is None:
        raise WorkError(
            f"{ledger.trial(trial_id).path('checkpoints/final.pt')}: missing; expected the weights that a trial begins "
            "with. Move that folder away and run the sweep again: it trains this one anew"
        )
    return content


def _reader(readers: int, group: Group) -> Reader | None:
    if not readers:
        return None
    from gapctl.data.pairs.read_ray import RayTasks

    return RayTasks(readers, reserved=group.size == 1)


def finished_report(result: Result) -> dict[str, Any]:
    """The last report of a trial whose result is in the ledger."""
    seen, loss = result.samples_seen, result.metrics.get("train/loss", math.nan)
    progress = Progress(seen, seen, samples_per_second=0.0, loss=loss, rows=(), done=True)
    return {"trial": result.trial, "saved": seen, **asdict(progress)}
