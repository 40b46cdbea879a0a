"""The command of a job: what the head runs, and what would be lost there or seen by others."""

from pathlib import Path

import pytest

from gapctl.cluster.jobs import build_job
from gapctl.errors import InputError
from sweep_texts import TINY, written

RUNS = "s3://bucket/runs"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return written(tmp_path, TINY)


def test_a_job_runs_the_sweep_on_the_cluster_that_it_is_on(sweep: Path) -> None:
    job = build_job(sweep, "quick", ["seeds=2"], RUNS)

    assert job.file == sweep
    assert job.entrypoint == (
        "gapctl sweep sweep.yaml --address auto --runs s3://bucket/runs --scale quick --set seeds=2 "
        "--set tracking.uri=http://127.0.0.1:5000"
    )


def test_a_shell_takes_what_was_typed_as_it_was_typed(sweep: Path) -> None:
    job = build_job(sweep, None, ["question=Why $HOME; echo 'no'?", "tracking.uri=http://head:1"], RUNS)

    assert """--set 'question=Why $HOME; echo '"'"'no'"'"'?'""" in job.entrypoint


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "sqlite:////shared/mlflow.db"])
def test_a_store_that_the_head_sees_is_kept(sweep: Path, uri: str) -> None:
    job = build_job(sweep, None, [f"tracking.uri={uri}"], RUNS)

    assert job.tracking == uri
    assert "127.0.0.1" not in job.entrypoint


@pytest.mark.parametrize("runs", ["runs", "./runs", "../runs"])
def test_a_ledger_that_would_vanish_with_the_job_is_refused(sweep: Path, runs: str) -> None:
    with pytest.raises(InputError, match=f"--runs {runs}: a folder of the job, which Ray deletes"):
        build_job(sweep, None, [], runs)


@pytest.mark.parametrize("override", ["base.data.source=shards/mad", "base.data.source=mnist"])
def test_data_that_only_this_machine_has_are_refused(sweep: Path, override: str) -> None:
    with pytest.raises(InputError, match="a path below the current folder, which the nodes do not have"):
        build_job(sweep, None, [override], RUNS)


def test_data_that_all_nodes_see_are_taken(sweep: Path) -> None:
    assert "/shared/mad" in build_job(sweep, None, ["base.data.source=/shared/mad"], RUNS).entrypoint


def test_digits_at_an_address_are_refused_as_every_node_would(sweep: Path) -> None:
    with pytest.raises(InputError, match="found s3://bucket/mad, and MAD's images are mapped into memory from a disk"):
        build_job(sweep, None, ["base.data.source=s3://bucket/mad"], RUNS)


def test_pairs_at_an_address_are_taken(tmp_path: Path) -> None:
    text = "name: a\nquestion: Does it read them?\nvary: {train.lr: [1.0e-3]}\nbase:\n"
    data = "{dataset: image_text, source: s3://bucket/cc12m, classes: s3://bucket/classes.txt}"
    sweep = written(tmp_path, f"{text}  data: {data}\n  model: {{preset: pairs-small}}\n")

    assert build_job(sweep, None, [], RUNS).file == sweep


@pytest.mark.parametrize(
    "override", ["tracking.uri=postgresql://me:hunter2@db/mlflow", "tracking.uri=mysql://me@srv:hunter2@srv/x"]
)
def test_no_password_reaches_a_command_that_the_dashboard_shows(sweep: Path, override: str) -> None:
    with pytest.raises(InputError) as said:
        build_job(sweep, None, [override], RUNS)

    assert "shown on Ray's dashboard" in str(said.value)
    assert "hunter2" not in str(said.value)


def test_no_file_with_a_password_is_sent(tmp_path: Path) -> None:
    sweep = written(tmp_path, f'{TINY}tracking: {{uri: "postgresql://me:hunter2@db/mlflow"}}\n')

    with pytest.raises(InputError) as said:
        build_job(sweep, None, [], RUNS)
    assert "the head would keep" in str(said.value)
    assert "hunter2" not in str(said.value)


def test_a_ledger_with_a_password_is_refused(sweep: Path) -> None:
    with pytest.raises(InputError) as said:
        build_job(sweep, None, [], "ftp://me:hunter2@host/runs")
    assert "hunter2" not in str(said.value)


def test_a_wrong_sweep_file_is_told_here_and_not_on_the_cluster(sweep: Path) -> None:
    with pytest.raises(InputError, match="no such setting"):
        build_job(sweep, None, ["sedes=2"], RUNS)
