"""A sweep whose ledger and MLflow files lie in an object store that fails now and then ends as on a quiet disk."""

import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.command_line import format_result_file_prefix
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


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, float]]:
    """Each trial's metrics as a disk that never fails has them."""
    folder = tmp_path_factory.mktemp("quiet")
    return {trial.id: trained_alone(trial, folder).metrics for trial in plan_trials(*SMALL)}


def test_trainings_without_ray_lose_nothing_in_a_bucket_that_fails_now_and_then(
    store: Store, quiet: dict[str, Mapping[str, float]]
) -> None:
    runs, settings = f"s3://{BUCKET}/alone", [part for change in SMALL for part in ("--set", change)]
    with store.failing("InternalError", "SlowDown", "reset", "answer lost", share=0.1, latency=0.01) as happened:
        for trial_id in quiet:
            told = gapctl("train", str(SMOKE), "--scale", "smoke", "--trial", trial_id, "--runs", runs, *settings)
            assert told.exit_code == 0, told.err

    assert sum(happened.values())
    assert metrics_in(runs, quiet) == quiet
    assert (
        "information-closes-the-gap" in gapctl("analyze", str(SMOKE), "--scale", "smoke", "--runs", runs, *settings).out
    )


def test_a_sweep_in_a_bucket_that_fails_now_and_then_ends_in_the_same_verdicts(
    store: Store, quiet: dict[str, Mapping[str, float]], tmp_path: Path
) -> None:
    with mlflow_server(tmp_path) as tracking:
        with store.failing("InternalError", "SlowDown", "reset", "answer lost", share=0.05, latency=0.01) as happened:
            settings = [part for change in (*SMALL, f"tracking.uri={tracking}") for part in ("--set", change)]
            done = run_sweep(tmp_path, "--runs", RUNS, *settings)
        assert done.exit_code == 0, done.out + done.err
        experiment = f"{tracking}/api/2.0/mlflow/experiments/get-by-name?experiment_name=imbalance"
        with urllib.request.urlopen(experiment, timeout=30) as answer:
            assert json.load(answer)["experiment"]["artifact_location"].startswith("mlflow-artifacts:/")

    assert "information-closes-the-gap" in done.out
    assert sum(happened.values())
    assert metrics_in(RUNS, quiet) == quiet
    names = store.names()
    assert f"runs/{format_result_file_prefix(load_sweep(Path('imbalance'), 'smoke', SMALL))}.report.html" in names
    assert any(name.startswith("mlflow/") and name.endswith(".html") for name in names), "MLflow keeps the report there"
    assert not [name for name in names if "unfinished" in name or name.endswith("lease.json")]


def metrics_in(runs: str, trial_ids: Iterable[str]) -> dict[str, Mapping[str, float]]:
    results = {trial_id: Ledger(runs).result(trial_id) for trial_id in trial_ids}
    return {trial_id: result.metrics for trial_id, result in results.items() if result is not None}
