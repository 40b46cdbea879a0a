"""Jobs on a real Ray head with its dashboard, and addresses where there is none."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from command_line import Answer
from gapctl.cluster.jobs import JobState
from gapctl.ledger import Ledger

REPOSITORY = Path(__file__).parents[2]
SWEEP = """\
name: small
question: Does it?
base:
  train: {samples: 512, batch_size: 64}
  evaluate: {every: 256, gallery: 64}
vary:
  data.captions.attributes: [0, 5]
"""
WAITS_FOR_CTRL_C = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: (print('saved', flush=True), sys.exit(130)))\n"
    "print('begun', flush=True)\n"
    "time.sleep(200)"
)


class Head(NamedTuple):
    """A Ray head that asks for a token: its dashboard, and the variables of a client that has the token."""

    address: str
    client: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="gj-", dir="/tmp"))  # Ray's sockets want a short path
    (folder / "token").write_text("t" * 64)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    port = free_port()
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            _start_command(folder, port), env=environment(**token), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/version", process, folder / "head.log")
        yield Head(f"http://127.0.0.1:{port}", token)
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, kind)
                process.wait(timeout=5)
        shutil.rmtree(folder, ignore_errors=True)


def _start_command(folder: Path, dashboard: int) -> list[str]:
    ports = ("--port", "--dashboard-agent-listen-port", "--dashboard-agent-grpc-port", "--ray-client-server-port")
    return [
        *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *(f"{name}={free_port()}" for name in ports),
        *(f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1", f"--temp-dir={folder / 'r'}"),
        *("--num-cpus=2", '--resources={"head": 1}', "--min-worker-port=0", "--max-worker-port=0"),
    ]


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(480):
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(log.read_text(errors="replace"))


def environment(**more: str) -> dict[str, str]:
    """This process's, in which `gapctl` is that of this checkout; no token, and no cluster of the user's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
    sources = [str(REPOSITORY / "platform"), str(REPOSITORY / "dashboards"), *filter(None, [kept.get("PYTHONPATH")])]
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "RAY_AUTH_MODE": "disabled", "PATH": path, "PYTHONPATH": os.pathsep.join(sources), **more}


def cluster(head: Head, *words: str, **more: str) -> Answer:
    """`gapctl cluster ...` as a process of its own, which has ended when this returns."""
    done = subprocess.run(
        [sys.executable, "-m", "gapctl", "cluster", *words, "--address", head.address],
        env=environment(**head.client, **more),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def waiting(head: Head) -> str:
    """A job that waits to be stopped."""
    sent = (
        "from pathlib import Path; from gapctl.cluster.jobs import Job; from gapctl.cluster.jobs import JobServer;"
        f"job = Job(Path({__file__!r}), ('python', '-c', {WAITS_FOR_CTRL_C!r}), '');"
        f"print(JobServer({head.address!r}).submit(job))"
    )
    job_id = subprocess.run(
        [sys.executable, "-c", sent], env=environment(**head.client), capture_output=True, text=True, check=True
    ).stdout.strip()
    for _ in range(240):
        if json.loads(cluster(head, "status", job_id, "--json").out)["jobs"][0]["status"] == "RUNNING":
            return job_id
        time.sleep(0.5)
    raise AssertionError(f"{job_id} does not begin")


@pytest.mark.slow
def test_a_submitted_sweep_finishes_without_its_client(head: Head, tmp_path: Path) -> None:
    sweep, runs = tmp_path / "small.yaml", tmp_path / "runs"
    sweep.write_text(SWEEP)
    store = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    sent = cluster(head, "submit", str(sweep), "--runs", str(runs), "--set", store)
    job_id = sent.out.split(":")[0]

    assert sent.exit_code == 0, sent.err
    assert f"follow: gapctl cluster status {job_id} --follow --address {head.address}" in sent.out

    followed = cluster(head, "status", job_id, "--follow")
    assert followed.exit_code == 0, followed.out + followed.err
    assert "2 of 2 trainings done" in followed.out
    assert f"{job_id}: succeeded" in followed.err
    assert len(Ledger(str(runs)).list_trial_ids()) == 2


@pytest.mark.slow
def test_the_exit_code_of_the_sweep_is_that_of_the_follower(head: Head, tmp_path: Path) -> None:
    sweep, runs = tmp_path / "small.yaml", tmp_path / "runs"
    sweep.write_text(SWEEP)
    runs.write_text("a file, not a folder")
    found = cluster(head, "submit", str(sweep), "--runs", str(runs), "--follow")

    assert found.exit_code == 2
    assert "is a file; expected a folder" in found.out
    assert "failed with exit code 2" in found.err


@pytest.mark.slow
def test_a_follower_that_leaves_leaves_the_job_running(head: Head, waiting: str) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "gapctl", "cluster", "status", waiting, "--follow", "--address", head.address],
        env=environment(**head.client),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert any(line == "begun\n" for line in follower.stdout)
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=60)

    assert follower.returncode == 130
    assert f"{waiting} goes on; follow it again: gapctl cluster status {waiting} --follow" in said
    assert cluster(head, "status", waiting).exit_code == 0


@pytest.mark.slow
def test_a_stopped_job_is_asked_as_by_ctrl_c_and_ends_interrupted(head: Head, waiting: str) -> None:
    stopped = cluster(head, "stop", waiting)
    followed = cluster(head, "status", waiting, "--follow")

    assert "asked to stop" in stopped.out
    assert followed.out.endswith("saved\n")
    assert followed.exit_code == 130
    assert "had ended before" in cluster(head, "stop", waiting).out


@pytest.mark.slow
def test_a_job_that_is_not_there_is_told(head: Head) -> None:
    for words in (("status", "raysubmit_none"), ("stop", "raysubmit_none"), ("status", "raysubmit_none", "--follow")):
        found = cluster(head, *words)

        assert found.exit_code == 2
        assert "raysubmit_none: no such job" in found.err


@pytest.mark.slow
def test_a_client_without_the_token_is_told_how_to_get_it(head: Head) -> None:
    found = cluster(Head(head.address, {}), "status")

    assert found.exit_code == 2
    assert "the cluster asks for a token; set RAY_AUTH_MODE=token" in found.err


@pytest.mark.slow
def test_an_address_in_the_environment_does_not_replace_the_one_that_was_typed(head: Head) -> None:
    assert cluster(head, "status", RAY_ADDRESS="http://127.0.0.1:1").exit_code == 0


NOWHERE = Head("http://127.0.0.1:1", {})


def test_an_address_where_nothing_listens_is_told() -> None:
    found = cluster(NOWHERE, "status")

    assert found.exit_code == 2
    assert "--address http://127.0.0.1:1: no Ray dashboard answers there" in found.err
    assert "Traceback" not in found.err


def test_a_door_that_opens_and_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = cluster(Head(f"http://127.0.0.1:{silent.getsockname()[1]}", {}), "status")

    assert found.exit_code == 2
    assert "no Ray dashboard answers there: timed out" in found.err


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "auto", "http://", "http://h:99999"])
def test_what_is_no_address_of_a_dashboard_is_told(address: str) -> None:
    found = cluster(Head(address, {}), "stop", "x")

    assert found.exit_code == 2
    assert f"--address {address}: expected that of Ray's dashboard, such as http://127.0.0.1:8265" in found.err


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 130, 130),
        ("FAILED", -9, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_an_ended_job_has_one_of_the_exit_codes_of_a_sweep(status: str, code: int | None, outcome: int) -> None:
    assert JobState("x", status, "gapctl", None, None, code, "").outcome == outcome
