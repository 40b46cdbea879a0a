"""Two commands for the same trials share the work: none is trained twice, and what a killed one held is taken over."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from drill.local_cluster import LocalCluster
from forked import ForkedProcess
from gapctl.cli.main import run
from gapctl.ledger import Ledger
from sweep_without_ray import main, plan_of
from sweeping import LONGEST_SECONDS, SMOKE, Running, kill_all, start_command, sweep_command, wait_until
from trained_alone import plan_trials, trained_alone

pytestmark = pytest.mark.timeout(900)
SHORT = ("base.train.samples=5_120", "base.evaluate.every=5_120", "base.evaluate.gallery=64")
PREPARED = ("base.init_from.data.captions.attributes=3", "seeds=2")
TINY = ("base.train.samples=1_280", "base.evaluate.every=640", "base.evaluate.gallery=64")
SOME = ("base.train.samples=7_680", "base.evaluate.every=1_280", "base.evaluate.gallery=64")
LONG = ("base.train.samples=12_800", "base.evaluate.every=12_800", "base.evaluate.gallery=64")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray with two CPUs, which both sweeps join: one start takes as long as the trainings."""
    with tempfile.TemporaryDirectory(prefix="gs-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = LocalCluster(Path(folder))
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        try:
            made.start_head(cpus=2)
            yield made.address
        finally:
            made.stop()


def settings(*changes: str) -> list[str]:
    return [text for change in changes for text in ("--set", change)]


def lease_in(path: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def holders_until_both_end(runs: Path, sweeps: Sequence[Running]) -> dict[str, dict[str, str]]:
    """Every holder that each trial ever had, with the run that it trained for."""
    holders: dict[str, dict[str, str]] = {}
    deadline = time.monotonic() + 2 * LONGEST_SECONDS
    while any(sweep.poll() is None for sweep in sweeps) and time.monotonic() < deadline:
        for path in runs.glob("*/lease.json"):
            if lease := lease_in(path):
                holders.setdefault(path.parent.name, {})[lease["holder"]] = lease["run"]
        time.sleep(0.02)
    return holders


def test_two_processes_with_the_same_plan_train_each_trial_once_those_that_others_begin_with_too(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    both = [ForkedProcess(main, str(runs), *TINY, *PREPARED, folder=tmp_path / name) for name in ("one", "other")]
    holders_until_both_end(runs, both)
    trained = [process.communicate(timeout=60)[0].split() for process in both]

    finished = {path.parent.name for path in runs.glob("*/result.json")}
    assert [process.returncode for process in both] == [0, 0], [process.written() for process in both]
    assert finished == {trial.id for trial in plan_of(*TINY, *PREPARED).trainings}
    assert sorted(trained[0] + trained[1]) == sorted(finished)
    assert all(trained)
    assert not list(runs.glob("*/lease.json"))


@pytest.mark.slow
@pytest.mark.timeout(2_400)
def test_two_sweeps_of_one_file_share_its_trials_and_both_end_in_verdicts(tmp_path: Path, cluster: str) -> None:
    options = [*settings(*SHORT, *PREPARED), "--address", cluster]
    command = sweep_command(tmp_path, *options)  # by new processes, as Ray reads at its import how to join a cluster
    sweeps = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    try:
        holders = holders_until_both_end(tmp_path / "runs", sweeps)
    finally:
        for sweep in sweeps:
            sweep.send_signal(signal.SIGINT)  # one that ended has gone its way
    outputs = [sweep.communicate(timeout=60)[0] for sweep in sweeps]

    assert [sweep.returncode for sweep in sweeps] == [0, 0], "\n".join(outputs)
    finished = {path.parent.name for path in (tmp_path / "runs").glob("*/result.json")}
    trials = plan_trials(*SHORT, *PREPARED)
    assert finished == {trial.id for trial in trials} | {str(trial.parent) for trial in trials}
    assert {trial_id: len(each) for trial_id, each in holders.items()} == dict.fromkeys(finished, 1)
    assert not list((tmp_path / "runs").glob("*/lease.json"))
    for output in outputs:
        assert "report: " in output
        assert "6 of 6 trials to train" in output


def train_command(runs: Path, trial_id: str, *changes: str) -> list[str]:
    return ["train", str(SMOKE), "--scale", "smoke", *settings(*changes), "--runs", str(runs), "--trial", trial_id]


def test_a_training_waits_for_who_has_the_trial_and_takes_over_when_that_one_is_killed(tmp_path: Path) -> None:
    runs, trial = tmp_path / "runs", plan_trials(*SOME)[0]
    lease, command = runs / trial.id / "lease.json", train_command(runs, trial.id, *SOME)
    first = ForkedProcess(run, command, folder=tmp_path / "first")
    wait_until(lambda: any(int(path.stem) > 0 for path in runs.glob("*/checkpoints/0*.pt")), first)
    os.kill(first.pid, signal.SIGSTOP)  # or it may end while the second still starts
    second = ForkedProcess(run, command, folder=tmp_path / "second")
    wait_until(lambda: "waiting for it" in second.written()[1], second)
    assert f"pid {first.pid} (another sweep); waiting for it" in second.written()[1]
    assert lease_in(lease)["pid"] == first.pid

    kill_all(first)
    written = second.communicate(timeout=LONGEST_SECONDS)

    assert second.returncode == 0, written
    found = Ledger(str(runs)).result(trial.id)
    assert found is not None
    assert found.metrics == trained_alone(trial, tmp_path / "alone").metrics
    assert not lease.exists()


def test_a_training_that_is_stopped_lets_go(tmp_path: Path) -> None:
    runs, trial = tmp_path / "runs", plan_trials(*LONG)[0]
    training = start_command(tmp_path, *train_command(runs, trial.id, *LONG))
    wait_until(lambda: bool(list(runs.glob("*/lease.json"))), training)
    time.sleep(0.5)
    training.send_signal(signal.SIGINT)
    training.communicate(timeout=60)

    assert training.returncode == 130
    assert not list(runs.glob("*/lease.json"))
