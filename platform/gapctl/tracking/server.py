"""Run `mlflow server` on a local store, as a process that ends with this one."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple
from urllib.parse import quote

from gapctl.errors import InputError, WorkError
from gapctl.io.scratch import ScratchFolder
from gapctl.proxies import bypass_proxies
from gapctl.tracking.pages_app import APP_NAME
from gapctl.tracking.store import locate_artifact_root, make_sqlite_uri_absolute

SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_WORKSPACES": "false",
}
PORTS_TRIED = 100
POLL_SECONDS = 0.2
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 30.0
EVERYWHERE = ("0.0.0.0", "::", "")


class ServedExperiment(NamedTuple):
    """An experiment as the server returns it."""

    id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Server:
    """A running server; `address` is its address for browsers on this machine."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_until_ready(self) -> None:
        """Wait until the server answers. Raises WorkError if it ends before or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_answering():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self._describe_failure()
            time.sleep(POLL_SECONDS)

    def wait(self) -> None:
        """Wait for ever. Raises WorkError if the server ends by itself."""
        # Once polars is imported, SIGINT no longer interrupts a blocking wait: its handler restarts system calls.
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
        raise self._describe_failure()

    def experiment(self, name: str) -> ServedExperiment | None:
        """Return the experiment of a name, or None. Raises WorkError if the server cannot read its store."""
        address = f"{self.address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name, safe='')}"
        try:
            with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
                found = json.load(answer)["experiment"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise WorkError(f"MLflow's store cannot be read: {_read_message(error)}") from error
        except OSError as error:
            raise WorkError(
                f"MLflow's server at {self.address} does not answer: {error}; call the command again"
            ) from error
        return ServedExperiment(found["experiment_id"], {tag["key"]: tag["value"] for tag in found.get("tags", ())})

    def _is_answering(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def _describe_failure(self) -> WorkError:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "without a word"
        state = "ended" if self.process.poll() is not None else f"did not answer within {READY_SECONDS:.0f} seconds"
        return WorkError(f"MLflow's server at {self.address} {state}: {last}")


def _read_message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers with errors (HTTP {error.code})"


def find_free_port(host: str, first: int) -> int:
    """Return the first free port from `first` on. Raises InputError if there is none, or no such host."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        if _is_free(host, port):
            return port
    raise InputError(f"--port {first}: this port and the {PORTS_TRIED - 1} after it are taken; give another")


def start_server(store: str, files: str, host: str, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start `mlflow server` in its own session, on `store`, with the files of new experiments at `files`.

    The store's address may hold a password, so it is in the environment, which other users cannot read. Its pages are
    those of `gapctl.tracking.pages_app`, unless gapctl runs from an installation that does not register them yet.
    """
    options = {
        "--default-artifact-root": "mlflow-artifacts:/",
        "--artifacts-destination": files,
        "--host": host,
        "--port": str(port),
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning --no-access-log",
        **({"--app-name": APP_NAME} if entry_points(group="mlflow.app", name=APP_NAME) else {}),
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *(word for option in options.items() for word in option)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **SETTINGS, "MLFLOW_BACKEND_STORE_URI": store},
            start_new_session=True,
        )


@contextmanager
def open_mlflow_server(uri: str, host: str, port: int) -> Iterator[Server]:
    """Run the server while the context lasts; stop it also on SIGTERM and SIGHUP."""
    files = locate_artifact_root(uri)
    assert files is not None
    name = "127.0.0.1" if host in EVERYWHERE else host
    address = f"http://{f'[{name}]' if ':' in name else name}:{port}"
    with ScratchFolder("ui") as folder, _handle_signals():
        log = folder / "server.log"
        process = start_server(make_sqlite_uri_absolute(uri), files, host, port, log)
        bypass_proxies(address)
        try:
            yield Server(address, process, log)
        finally:
            stop_server(process)


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"--host {host}: no machine of that name is known; expected 127.0.0.1 or 0.0.0.0") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError as error:
            raise InputError(f"--port {port}: only the administrator may use it; give one from 1024 on") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InputError(f"--host {host}: this machine has no such address; expected 127.0.0.1") from error
            return False
    return True


@contextmanager
def _handle_signals() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_server(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server and its workers, which have their own session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)
