"""`gapctl track sync` and `gapctl ui`, as a person calls them."""

import io
import json
import re
import signal
import socket
import sqlite3
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console
from small_sweep import SWEEP, Runs, Shown, start_ui
from typer.testing import CliRunner

from gapctl.cli.options import load_plan
from gapctl.cli.track import track_app
from gapctl.cli.ui import _show_page, ui_command
from gapctl.errors import InputError, WorkError
from gapctl.plan.plan import Plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.tracking.server import find_free_port
from gapctl.tracking.views import SweepFindings
from unhelpful_servers import answering, unused_address

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sweep file whose data is the bundled one, as the command line finds it."""
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP.format(name="small", levels=[0, 5]))
    return path


def test_sync_shows_the_ledger_and_files_the_report(
    file: Path, runs: Runs, uri: str, shown: Shown, tmp_path: Path
) -> None:
    plan = load_plan(file, None, None)
    for trial in plan.trials[:3]:
        runs.finish(trial)
    arguments = ["sync", str(file), "--runs", runs.ledger.root, "--uri", uri]

    done = CliRunner().invoke(track_app, arguments)

    assert done.exit_code == 0, done.output
    assert "3 runs: 3 created, 0 updated, 0 unchanged; 1 trial has not begun" in done.output
    parent = tmp_path / "mlartifacts" / "small" / shown.sweeps()["full"].info.run_id / "artifacts"
    assert "Does it?" in (parent / "report.html").read_text()
    assert [verdict["id"] for verdict in json.loads((parent / "verdicts.json").read_text())["verdicts"]] == ["closes"]
    assert list((parent / "figures").glob("*.png"))
    note = shown.sweeps()["full"].data.tags["mlflow.note.content"]
    assert f"/runs/{shown.sweeps()['full'].info.run_id}/artifacts/report.html" in note
    assert "/runs?workflowType=machine_learning&viewStateShareKey=gapctl-curves&compareRunsMode=CHART" in note
    assert "| It closes. (`closes`) | " in note
    assert "| **inconclusive** " in note
    assert shown.sweeps()["full"].data.tags["gapctl.verdicts"].startswith("1 ")


def test_sync_before_any_result_shows_what_has_begun(file: Path, runs: Runs, uri: str, shown: Shown) -> None:
    plan = load_plan(file, None, None)
    runs.begin(plan.trials[0])

    done = CliRunner().invoke(track_app, ["sync", str(file), "--runs", runs.ledger.root, "--uri", uri])

    assert done.exit_code == 0, done.output
    assert shown.trials()[plan.trials[0].id].info.status == "KILLED"


def test_sync_to_a_dead_server_says_so(file: Path, runs: Runs) -> None:
    runs.begin(load_plan(file, None, None).trials[0])

    done = CliRunner().invoke(
        track_app, ["sync", str(file), "--runs", runs.ledger.root, "--uri", address := unused_address()]
    )

    assert isinstance(done.exception, WorkError)
    assert f"MLflow at {address} could not be brought up to date: nothing answers there" in str(done.exception)


def test_ui_before_any_sweep_says_what_to_run_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=r"mlflow\.db: there is no MLflow database yet; .* `gapctl sweep FILE`"):
        ui_command()
    assert list(tmp_path.iterdir()) == []


def test_ui_of_a_server_prints_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    ui_command(uri="http://head.example.org:5000/")

    assert "MLflow: http://head.example.org:5000/#/experiments" in capsys.readouterr().out


def test_ui_of_a_server_prints_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    ui_command(uri="http://me:hunter2@head.example.org:5000/")

    assert "MLflow: http://me:***@head.example.org:5000/#/experiments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("terminal", "display", "wanted", "opened"),
    [
        (True, ":0", True, ["http://page"]),
        (True, ":0", False, []),
        (True, "", True, []),
        (False, ":0", True, []),
    ],
)
def test_the_page_opens_where_a_person_at_a_desktop_wants_it(
    terminal: bool, display: str, wanted: bool, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)  # no machine that runs tests has a desktop
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    _show_page("http://page", Console(file=io.StringIO(), force_terminal=terminal), browser=wanted)

    assert asked == opened


def test_ui_of_a_server_that_is_none_says_so(file: Path) -> None:
    with answering(404) as address, pytest.raises(WorkError, match="is not an MLflow server"):
        ui_command(file, uri=address)


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]

        assert find_free_port("127.0.0.1", taken) > taken


@pytest.mark.parametrize(
    ("host", "finding"), [("no.such.host.invalid", "no machine"), ("192.0.2.1", "no such address")]
)
def test_a_host_that_is_not_this_machine_is_refused(host: str, finding: str) -> None:
    with pytest.raises(InputError, match=rf"--host {host}: .*{finding}"):
        find_free_port(host, 5000)


def test_ui_serves_the_runs_and_their_files_until_it_is_interrupted(
    plan: Plan, runs: Runs, uri: str, shown: Shown, tmp_path: Path
) -> None:
    for trial in plan.trials:
        runs.finish(trial)
    sync_sweep(plan, runs.ledger, uri, lambda: SweepFindings("1 supported", "", {"report.html": b"<p>supported</p>"}))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        process = start_ui(str(plan.sweep.path), "--uri", uri, "--port", str(taken), cwd=tmp_path)
        said = [process.stdout.readline() for _ in range(5)] if process.stdout else []
    address = said[2].removeprefix("MLflow: ").partition("/#/")[0]
    parent = shown.sweeps()["full"].info.run_id
    try:
        with urllib.request.urlopen(f"{address}/get-artifact?path=report.html&run_uuid={parent}") as answer:
            report = answer.read()
        with urllib.request.urlopen(address) as answer:
            page = answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]

    assert said[0].startswith(f"port {taken} is taken; using ")
    assert said[1] == f"starting MLflow's server on {uri} at {address}; this takes some seconds\n"
    assert f"/#/experiments/{shown.experiment().experiment_id}/runs" in said[2]
    assert re.fullmatch(r"ready after \d+ s; Ctrl-C closes it\n", said[4])
    assert said[3].startswith(f"curves: {address}/#/experiments/")
    assert said[3].rstrip().endswith("&viewStateShareKey=gapctl-curves&compareRunsMode=CHART")
    assert said[2].rstrip().endswith("&viewStateShareKey=gapctl-table")
    assert report == b"<p>supported</p>"
    assert b"<title>MLflow</title>" in page
    assert (process.returncode, rest) == (0, "MLflow's pages are closed\n")
    assert not answers(address)


def test_a_store_of_another_version_of_mlflow_is_named_before_a_page_opens(
    file: Path, uri: str, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")

    port = unused_address().rpartition(":")[2]
    process = start_ui(str(file), "--uri", uri, "--port", port, cwd=tmp_path)
    said = process.communicate(timeout=120)[0]

    assert process.returncode != 0
    assert "written by an older MLflow (revision 451aebb31d03" in said
    assert "MLflow: http" not in said


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):
            return True
    except OSError:
        return False
