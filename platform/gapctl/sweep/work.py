"""One trial from begin to result in the ledger; the same for a Ray worker and for `gapctl train`."""

import math
from dataclasses import asdict
from typing import Any

import torch

from gapctl.data.feed import TrialData
from gapctl.ledger import Ledger, Result
from gapctl.plan.trials import Trial
from gapctl.training.hardware import hardware, versions
from gapctl.training.precision import resolve_precision
from gapctl.training.run import Progress, TrialRun


class TrialWork:
    """Trains a trial and writes it down: `advance` until its report says `done`.

    `threads` is fixed for a trial, so that sums are taken in the same order wherever it runs; `gpu` allows one.
    """

    def __init__(self, trial: Trial, data: TrialData, runs: str, *, threads: int, gpu: bool) -> None:
        torch.set_num_threads(threads)
        self._trial = trial
        self._folder = Ledger(runs).trial(trial.id)
        self._folder.begin(trial)
        self._device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        self._run = TrialRun(trial.config, trial.seed, data, self._folder, self._device)
        self._finished = False

    def advance(self, seconds: float) -> dict[str, Any]:
        """Trains for about `seconds` and reports; the last report comes after the result is in the ledger."""
        progress = self._run.advance(seconds)
        if progress.done:
            self._finish()
        return {"trial": self._trial.id, **asdict(progress)}

    def interrupt(self) -> None:
        """Saves a checkpoint, unless the trial is finished."""
        if not self._finished and not self._run.done:
            self._run.save()
            self._folder.rest()

    def _finish(self) -> None:
        precision = resolve_precision(self._trial.config.train.precision, self._device)
        result = Result(
            trial=self._trial.id,
            metrics=self._run.final_metrics(),
            samples_seen=self._run.samples_seen,
            seconds=round(self._run.seconds, 3),
            versions=versions(),
            hardware=hardware(self._device, precision),
        )
        self._folder.finish(result, self._run.weights())
        self._finished = True


def finished_report(result: Result) -> dict[str, Any]:
    """The last report of a trial whose result is in the ledger."""
    seen, loss = result.samples_seen, result.metrics.get("train/loss", math.nan)
    progress = Progress(seen, seen, samples_per_second=0.0, loss=loss, rows=(), done=True)
    return {"trial": result.trial, **asdict(progress)}
