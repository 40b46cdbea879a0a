"""Train a pack of trials in this process, from the ledger's checkpoints to its results.

Importing this takes seconds, as it imports all that trains: torch and open_clip too.
"""

from collections.abc import Mapping, Sequence

import torch

from gapctl.data.image_text.feed import PairReader, RayReader
from gapctl.data.load import Dataset
from gapctl.errors import WorkError
from gapctl.extensions import require_planned_extension_code
from gapctl.ledger import Ledger, Result, TrialFolder
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan.plan import Trial
from gapctl.sweep.gauges import MachineLog
from gapctl.sweep.progress import WorkerReport
from gapctl.sweep.worker import build_progress_report
from gapctl.training.hardware import (
    MachineMonitor,
    describe_hardware,
    describe_workers,
    list_versions,
    measure_peak_memory,
    select_training_device,
)
from gapctl.training.step_options import resolve_trial_precision
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialProgress, TrialState
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup


class PackWork:
    """Train a pack of trials in this process, and write results, checkpoints and history to the ledger.

    `threads` is fixed per trial, so that sums are taken in the same order on every machine. `gpu` means that a GPU is
    reserved; InputError is raised if torch cannot use it. `readers` are the CPUs of Ray Data that read pairs, 0 for a
    thread of this process. If several workers in `group` train one trial, only the first writes. `folders` hold the
    leases that the caller has acquired.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        data: Dataset,
        runs: str,
        *,
        threads: int,
        gpu: bool,
        readers: int = 0,
        group: WorkerGroup = SINGLE_WORKER,
        folders: Mapping[str, TrialFolder] | None = None,
    ) -> None:
        for trial in trials:
            require_planned_extension_code(trial.config.extensions, trial.extensions)
        torch.set_num_threads(threads)
        self.device = select_training_device(gpu=gpu)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._trials, self._group = trials, group
        ledger = Ledger(runs)
        self._folders = [(folders or {}).get(trial.id) or ledger.trial(trial.id) for trial in trials]
        members = []
        for trial, folder in zip(trials, self._folders, strict=True):
            if group.rank == 0:
                folder.begin(trial)
            initial = None if trial.parent is None else _load_parent_weights(ledger, trial.parent)
            member = TrialState(
                trial.config,
                trial.seed,
                data,
                folder,
                self.device,
                initial=initial,
                leads=group.rank == 0,
                sets=trial.evaluation_sets,
                weights_sha256=trial.weights_sha256,
                spares_uploads=ledger.disk is None,
            )
            member.begin_stretch(describe_workers(self.device, group.size))
            members.append(member)
        self._training = TrainingRun(members, self.device, group, _build_reader(readers, group))
        self._machine = MachineMonitor(self.device, threads)
        self._machine_logs = [
            MachineLog(folder, member.samples_seen) for folder, member in zip(self._folders, members, strict=True)
        ]
        self._finished: set[str] = set()

    def train_for(self, seconds: float, steps: int = 1) -> list[WorkerReport]:
        """Train for about `seconds`, at least `steps` steps, and return a report per unfinished trial.

        A trial's last report is returned after its result is in the ledger.
        """
        progress = self._training.train_for(seconds, steps)
        if self._group.rank == 0:
            self._log_machine(progress)
        reports = []
        for index, (trial, found) in enumerate(zip(self._trials, progress, strict=True)):
            if trial.id in self._finished:
                continue
            if found.done:
                self._finish_trial(index)
            saved = found.samples_seen if found.done else self._training.members[index].samples_saved
            reports.append(build_progress_report(trial.id, saved, found))
        return reports

    @property
    def unfinished(self) -> list[Trial]:
        """The trials without a result in the ledger."""
        return [trial for trial in self._trials if trial.id not in self._finished]

    def save(self) -> None:
        """Save checkpoints of unfinished trials."""
        self._training.save()

    def save_and_stop(self) -> None:
        """Save checkpoints of unfinished trials and release their leases."""
        self.save()
        for trial, folder in zip(self._trials, self._folders, strict=True):
            if trial.id not in self._finished:
                folder.release()

    def _log_machine(self, progress: Sequence[TrialProgress]) -> None:
        """Write machine measures only together with evaluations, to spare a remote ledger a write every few seconds."""
        beside = zip(self._trials, self._training.members, self._machine_logs, progress, strict=True)
        in_training = [(member, log, found) for trial, member, log, found in beside if trial.id not in self._finished]
        measures = self._machine.look(at_once=any(found.done for _, _, found in in_training))
        for member, log, found in in_training:
            if measures is not None:
                log.add_row(found.samples_seen, member.seconds, measures)
            if found.rows or found.done:
                log.save_rows()

    def _finish_trial(self, index: int) -> None:
        trial, member = self._trials[index], self._training.members[index]
        self._finished.add(trial.id)
        if not member.leads:
            return
        precision = resolve_trial_precision(trial.config, self.device)
        result = Result(
            trial=trial.id,
            metrics=member.read_final_metrics(),
            samples_seen=member.samples_seen,
            seconds=round(member.seconds, 3),
            versions={**list_versions(), **{code.package: code.version for code in trial.extensions.values()}},
            hardware={
                **describe_hardware(self.device, precision),
                "packed": member.packed,
                "workers": self._group.size,
                "stretches": member.stretches,
                **measure_peak_memory(self.device),
            },
        )
        self._folders[index].finish(result, member.weights())


def _load_parent_weights(ledger: Ledger, trial_id: str) -> bytes:
    """Return the weights that a trial begins with. Raises WorkError if the parent has none."""
    content = ledger.trial(trial_id).read(WEIGHTS)
    if content is None:
        raise WorkError(
            f"{ledger.trial(trial_id).path('checkpoints/final.pt')}: missing; expected the weights that a trial begins "
            "with. Move that folder away and run the sweep again: it trains this one anew"
        )
    return content


def _build_reader(readers: int, group: WorkerGroup) -> PairReader | None:
    if not readers:
        return None
    return RayReader(readers, reserved=group.size == 1, session=group.draw_name() if group.size > 1 else "")
