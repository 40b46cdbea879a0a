"""A trial notes what it asks of its machine beside its history, and MLflow shows that as metrics of the system."""

import math
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from gapctl.cli.console import make_plain_console
from gapctl.cli.data import load_data
from gapctl.cli.options import load_plan
from gapctl.data.mad.feed import TrialData
from gapctl.ledger import Ledger
from gapctl.ledger.trial import HISTORY, MACHINE
from gapctl.plan.plan import Plan
from gapctl.sweep.gauges import MachineLog
from gapctl.sweep.pack_work import PackWork
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.training import hardware as machine
from gapctl.training.hardware import CPU, MEMORY, MachineMonitor
from mlflow_database import write_empty_database
from sweep_texts import TINY

EVERY = ("base.evaluate.every=256", "base.evaluate.gallery=64", "seeds=1")
TWO = {f"system/{CPU}", f"system/{MEMORY}"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    file = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
    file.write_text(TINY)
    return load_plan(file, None, EVERY)


@pytest.fixture(scope="module")
def data(plan: Plan) -> TrialData:
    return load_data(plan.trials[0].config.data, make_plain_console())


def train(plan: Plan, data: TrialData, ledger: Ledger, pieces: float = 60.0) -> None:
    for trial in plan.trials:
        work = PackWork([trial], data, ledger.root, threads=1, gpu=False)
        while work.unfinished:
            work.train_for(pieces)


def test_every_trial_of_a_sweep_shows_its_machine_in_mlflow(plan: Plan, data: TrialData, tmp_path: Path) -> None:
    ledger, uri = Ledger(str(tmp_path / "runs")), f"sqlite:///{write_empty_database(tmp_path / 'mlflow.db')}"
    train(plan, data, ledger)

    sync_sweep(plan, ledger, uri)

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`gapctl.kind` = 'trial'")
    assert len(runs) == len(plan.trials)
    for run in runs:
        assert run.data.metrics.keys() >= TWO
        assert run.data.metrics[f"system/{MEMORY}"] > 50
        assert "system/memory_usage_megabytes" not in run.data.metrics  # the same number, once


def test_the_numbers_of_a_trial_do_not_depend_on_how_often_its_machine_is_looked_at(
    plan: Plan, data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom, often = Ledger(str(tmp_path / "seldom")), Ledger(str(tmp_path / "often"))
    train(plan, data, seldom)
    monkeypatch.setattr(machine, "SAMPLE_SECONDS", 0.0)
    train(plan, data, often, pieces=0.0)

    for trial in plan.trials:
        a, b = (ledger.trial(trial.id).read_table(HISTORY) for ledger in (seldom, often))
        assert a is not None
        assert b is not None
        assert a.drop("seconds").equals(b.drop("seconds"))
        assert (
            len(often.trial(trial.id).read_rows_or_empty(MACHINE))
            > len(seldom.trial(trial.id).read_rows_or_empty(MACHINE))
            > 0
        )


def test_a_look_soon_after_the_last_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = MachineMonitor(torch.device("cpu"), threads=1)

    assert looking.look() is None
    assert (looking.look(at_once=True) or {}).keys() == {CPU, MEMORY}
    monkeypatch.setattr(machine, "SAMPLE_SECONDS", 0.0)
    found = looking.look()
    assert found is not None
    assert all(math.isfinite(value) and value >= 0 for value in found.values())


def test_the_share_of_the_processor_is_of_the_trials_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 100.0, "worked": 10.0}
    monkeypatch.setattr(machine.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(machine.time, "process_time", lambda: clock["worked"])
    looking = MachineMonitor(torch.device("cpu"), threads=2)
    clock.update(now=110.0, worked=25.0)

    assert (looking.look() or {})[CPU] == 75.0


def test_an_attempt_goes_on_with_the_rows_up_to_its_checkpoint(plan: Plan, tmp_path: Path) -> None:
    folder = Ledger(str(tmp_path)).trial(plan.trials[0].id)
    first = MachineLog(folder, samples_seen=0)
    for samples in (64, 128, 192):
        first.add_row(samples, samples / 64, {CPU: 90.0})
    first.save_rows()

    again = MachineLog(folder, samples_seen=128)
    again.add_row(256, 4.0, {CPU: 80.0, "gpu_0_utilization_percentage": 70.0})
    again.save_rows()

    rows = folder.read_rows_or_empty(MACHINE)
    assert [row["samples_seen"] for row in rows] == [64, 128, 256]
    assert rows[0] == {"samples_seen": 64, "seconds": 1.0, CPU: 90.0}


def test_a_damaged_record_is_none_and_harms_nothing(plan: Plan, data: TrialData, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    train(plan, data, ledger)
    damaged = plan.trials[0]
    Path(ledger.trial(damaged.id).path("machine.parquet")).write_bytes(b"PAR1")

    sync_sweep(plan, ledger, uri := f"sqlite:///{write_empty_database(tmp_path / 'mlflow.db')}")

    assert ledger.trial(damaged.id).read_rows_or_empty(MACHINE) == []
    (run,) = MlflowClient(uri).search_runs(["1"], f"tags.`gapctl.trial` = '{damaged.id}'")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["system/memory_usage_megabytes"] > 50
