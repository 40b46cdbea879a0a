"""A sweep whose ledger and MLflow files lie in an object store that fails now and then ends as on a quiet disk."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.command_line import name_result_files
from gapctl.tracking import server as mlflow
from object_store import BUCKET, Store, object_store
from sweeping import SMOKE, run_sweep
from trained_alone import plan_trials, trained_alone

pytestmark = pytest.mark.timeout(900)
RUNS = f"s3://{BUCKET}/runs"
FILES = f"s3://{BUCKET}/mlflow"
SMALL = ("base.train.samples=2_560", "base.evaluate.every=1_280")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow on a database, with its files in the bucket, as it runs on a cluster's head."""
    port = mlflow.find_free_port("127.0.0.1", 5100)
    log, store = folder / "mlflow.log", f"sqlite:///{folder / 'mlflow.db'}"
    process = mlflow.start_server(store, FILES, "127.0.0.1", port, log)
    try:
        mlflow.Server(f"http://127.0.0.1:{port}", process, log).wait_until_ready()
        yield f"http://127.0.0.1:{port}"
    finally:
        mlflow.stop_server(process)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with object_store() as served:
        yield served


def test_trainings_without_ray_lose_nothing_in_a_bucket_that_fails_now_and_then(store: Store, tmp_path: Path) -> None:
    runs, settings = f"s3://{BUCKET}/alone", [part for change in SMALL for part in ("--set", change)]
    trials = plan_trials(*SMALL)
    with store.failing("InternalError", "SlowDown", "reset", "answer lost", share=0.1, latency=0.01) as happened:
        for trial in trials:
            told = gapctl("train", str(SMOKE), "--scale", "smoke", "--trial", trial.id, "--runs", runs, *settings)
            assert told.exit_code == 0, told.err

    assert sum(happened.values())
    for trial in trials:
        result = Ledger(runs).result(trial.id)
        assert result is not None
        assert result.metrics == trained_alone(trial, tmp_path).metrics
    assert (
        "information-closes-the-gap" in gapctl("analyze", str(SMOKE), "--scale", "smoke", "--runs", runs, *settings).out
    )


def test_a_sweep_in_a_bucket_that_fails_now_and_then_ends_in_the_same_verdicts(store: Store, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as tracking:
        with store.failing("InternalError", "SlowDown", "reset", "answer lost", share=0.05, latency=0.01) as happened:
            settings = [part for change in (*SMALL, f"tracking.uri={tracking}") for part in ("--set", change)]
            done = run_sweep(tmp_path, "--runs", RUNS, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        experiment = f"{tracking}/api/2.0/mlflow/experiments/get-by-name?experiment_name=imbalance"
        with urllib.request.urlopen(experiment, timeout=30) as answer:
            assert json.load(answer)["experiment"]["artifact_location"].startswith("mlflow-artifacts:/")

    assert "information-closes-the-gap" in done.stdout
    assert sum(happened.values())
    for trial in plan_trials(*SMALL):
        result = Ledger(RUNS).result(trial.id)
        assert result is not None
        assert result.metrics == trained_alone(trial, tmp_path / "alone").metrics
    names = store.names()
    assert f"runs/{name_result_files(load_sweep(Path('imbalance'), 'smoke', SMALL))}.report.html" in names
    assert any(name.startswith("mlflow/") and name.endswith(".html") for name in names), "MLflow keeps the report there"
    assert not [name for name in names if "unfinished" in name or name.endswith("lease.json")]
