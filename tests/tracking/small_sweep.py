"""A small sweep, a ledger that tests fill as a training would, and MLflow asked what it holds."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel, Run

from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, Trial

UI = "import typer; from gapctl.cli.ui import ui_command; typer.run(ui_command)"
PlanOf = Callable[..., Plan]
FINGERPRINT = "d1617" * 12 + "beef"
SWEEP = """\
name: {name}
question: Does it?
base: {{train: {{samples: 2_560, batch_size: 256}}}}
vary:
  data.captions.attributes: {levels}
seeds: 2
hypotheses:
  - {{id: closes, claim: It closes., test: trend, response: gap/rmg, factor: data.captions.attributes,
     direction: decreasing, smallest_effect: 0.02}}
scales: {{quick: {{seeds: 1}}, full: {{}}}}
default_scale: full
"""
ROWS: list[dict[str, float]] = [
    {"samples_seen": 0, "gap/rmg": 0.9, "quality/i2t_recall_1": 0.1, "seconds": 0.5},
    {"samples_seen": 1280, "gap/rmg": 0.5, "quality/i2t_recall_1": math.nan, "seconds": 2.25, "train/loss": 3.5},
    {"samples_seen": 2560, "gap/rmg": 0.30000000000000004, "quality/i2t_recall_1": 40.0, "seconds": 4.0},
]


@dataclass(frozen=True)
class Runs:
    """A ledger, and what a training does to it."""

    ledger: Ledger

    def begin(self, trial: Trial, rows: Sequence[Mapping[str, float]] = ()) -> None:
        folder = self.ledger.trial(trial.id)
        folder.begin(trial)
        if rows:
            folder.save_history(rows)

    def finish(self, trial: Trial, rows: Sequence[Mapping[str, float]] = ROWS) -> None:
        self.begin(trial, rows)
        last = rows[-1]
        metrics = {key: value for key, value in last.items() if key not in ("samples_seen", "seconds")}
        seen, seconds = int(last["samples_seen"]), float(last["seconds"]) + 0.5
        result = Result(trial.id, metrics, seen, seconds, {}, {"memory_mb": 765})
        self.ledger.trial(trial.id).finish(result, weights=b"")


@dataclass(frozen=True)
class Shown:
    """What MLflow holds, asked through a client of its own."""

    client: MlflowClient

    def experiment(self, name: str = "small") -> Experiment:
        found = self.client.get_experiment_by_name(name)
        assert found is not None, f"MLflow has no experiment {name}"
        return found

    def all(self, name: str = "small") -> list[Run]:
        return list(self.client.search_runs([self.experiment(name).experiment_id]))

    def trials(self, name: str = "small") -> dict[str, Run]:
        """The children by trial id; a second run of one trial would be an error."""
        runs = [run for run in self.all(name) if "gapctl.trial" in run.data.tags]
        by_trial = {run.data.tags["gapctl.trial"]: run for run in runs}
        assert len(by_trial) == len(runs), "a trial has two runs"
        return by_trial

    def sweeps(self, name: str = "small") -> dict[str, Run]:
        """The parents by scale and overrides."""
        parents = [run for run in self.all(name) if run.data.tags["gapctl.kind"] == "sweep"]
        return {run.data.tags["mlflow.runName"].removeprefix("Sweep "): run for run in parents}

    def models(self, name: str = "small") -> dict[str, LoggedModel]:
        """The logged models by trial id; a second one of a trial would be an error."""
        models = self.client.search_logged_models([self.experiment(name).experiment_id])
        by_trial = {model.tags["gapctl.trial"]: model for model in models}
        assert len(by_trial) == len(models), "a trial has two models"
        return by_trial

    def history(self, run: Run, key: str) -> dict[int, float]:
        found = self.client.get_metric_history(run.info.run_id, key)
        assert len({metric.step for metric in found}) == len(found), "a step was logged twice"
        return {metric.step: metric.value for metric in found}


def start_ui(*arguments: str, cwd: Path, packages: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start `gapctl ui` in a process, which also finds the packages that are installed in these folders.

    It heeds SIGINT, which a shell's background jobs, and so these tests, may have been told to ignore.
    """
    path = os.pathsep.join([*packages, *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", UI, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
