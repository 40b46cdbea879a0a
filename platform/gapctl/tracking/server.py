"""MLflow's own server on a store of ours, as a process that ends with us."""

import errno
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
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from gapctl.errors import InputError, WorkError
from gapctl.tracking.uri import absolute, artifact_root

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
PORTS_TRIED = 100
POLL_SECONDS = 0.2
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Server:
    """A running server: `address` is where a browser on this machine finds it."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_until_ready(self) -> None:
        """Returns when it answers; raises WorkError where it ends before, or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self._broken()
            time.sleep(POLL_SECONDS)

    def wait(self) -> None:
        """Returns never: raises WorkError if the server ends by itself."""
        # Once polars is imported, SIGINT no longer interrupts a blocking wait: its handler restarts system calls.
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
        raise self._broken()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def _broken(self) -> WorkError:
        said = self.log.read_text(errors="replace").strip().splitlines()
        last = said[-1] if said else "without a word"
        state = "ended" if self.process.poll() is not None else f"did not answer within {READY_SECONDS:.0f} seconds"
        return WorkError(f"MLflow's server at {self.address} {state}: {last}")


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on; raises InputError where there is none, or no such host."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        if _is_free(host, port):
            return port
    raise InputError(f"--port {first}: this port and the {PORTS_TRIED - 1} after it are taken; give another")


@contextmanager
def serving(uri: str, host: str, port: int) -> Iterator[Server]:
    """Starts the server and stops it in the end, also when we are told to end (SIGTERM, or a closed terminal)."""
    name = "127.0.0.1" if host in EVERYWHERE else host
    with TemporaryDirectory(prefix="gapctl-ui-") as folder, _ending_in_order():
        log = Path(folder) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(uri, host, port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **SETTINGS},
                start_new_session=True,
            )
        try:
            yield Server(f"http://{f'[{name}]' if ':' in name else name}:{port}", process, log)
        finally:
            _stop(process)


def _command(uri: str, host: str, port: int) -> list[str]:
    root = artifact_root(uri)
    assert root is not None
    # New experiments that are made through the server keep their files where ours do.
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", absolute(uri), "--artifacts-destination", root),
        *("--host", host, "--port", str(port)),
    ]


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
def _ending_in_order() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the server and its workers, which have a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)
