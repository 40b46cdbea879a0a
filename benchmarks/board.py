"""Whether the Grafana board shows a real sweep: Ray, a small sweep and Prometheus on this machine, then every query.

Needs `prometheus` (Debian: `apt-get install prometheus`) beside what is locked:

    python benchmarks/board.py

Takes about two minutes. Exit code 1 where a query of the board returns nothing.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
BOARD = ROOT / "dashboards" / "grafana.json"
SWEEP = ROOT / "sweeps" / "imbalance.yaml"
PROMETHEUS = """\
global: {{scrape_interval: 2s}}
scrape_configs:
- job_name: ray
  file_sd_configs:
  - files: ['{discovery}']
    refresh_interval: 2s
"""
READY_SECONDS = 60.0
LONGEST_SECONDS = 600.0


class Answer(NamedTuple):
    """A query of a panel, the most series that it returned at once, and their latest values."""

    panel: str
    query: str
    values: tuple[float, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to keep the answers")
    arguments = parser.parse_args()
    if missing := what_is_missing():
        print(f"board.py: {missing}", file=sys.stderr)
        return 2
    with TemporaryDirectory(prefix="gapctl-board-") as name:
        answers = watched_sweep(Path(name))
    for answer in answers:
        latest = ", ".join(f"{value:g}" for value in answer.values[:4])
        print(f"{answer.panel:24} {len(answer.values):2} series  {latest or 'NOTHING':32} {answer.query}")
    if arguments.json:
        arguments.json.write_text(json.dumps([answer._asdict() for answer in answers], indent=1) + "\n")
    return 0 if all(answer.values for answer in answers) else 1


def what_is_missing() -> str | None:
    """What has to be installed first, or None."""
    if shutil.which("prometheus") is None:
        return "there is no program `prometheus`; expected Prometheus 2 or later: apt-get install prometheus"
    if find_spec("prometheus_client") is None:
        return "Ray exports no metrics here; expected ray[default]: pip install 'ray[default]'"
    return None


def watched_sweep(folder: Path) -> list[Answer]:
    """Runs the smoke scale under Ray and Prometheus, and asks every query while trials run and once they are done."""
    with ray_head(folder / "ray"), prometheus(folder) as address:
        sweep = subprocess.Popen(sweep_command(folder), cwd=folder)
        found: dict[tuple[str, str], tuple[float, ...]] = {}
        deadline = time.monotonic() + LONGEST_SECONDS
        while sweep.poll() is None and time.monotonic() < deadline:
            time.sleep(1)
            for panel, query in queries():
                values = asked(address, query)
                found[panel, query] = values or found.get((panel, query), ())
        if sweep.wait(timeout=READY_SECONDS):
            raise SystemExit(f"board.py: the sweep ended with exit code {sweep.returncode}")
    return [Answer(panel, query, values) for (panel, query), values in found.items()]


def queries() -> list[tuple[str, str]]:
    """Panel and query, every sweep chosen."""
    board = json.loads(BOARD.read_text())
    return [
        (panel["title"], target["expr"].replace("$sweep", ".*"))
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def asked(address: str, query: str) -> tuple[float, ...]:
    """The values that Prometheus answers with now."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        document: dict[str, Any] = json.load(response)
    return tuple(float(series["value"][1]) for series in document["data"]["result"])


def sweep_command(folder: Path) -> list[str]:
    places = ["--runs", str(folder / "runs"), "--set", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
    return [sys.executable, "-m", "gapctl", "sweep", str(SWEEP), "--scale", "smoke", "--address", "auto", *places]


@contextmanager
def ray_head(folder: Path) -> Iterator[None]:
    """Ray as on a cluster's head, its files below `folder`; stops the processes that it started, and no others."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112 - Ray reads it so; trials here take seconds
    command = ["start", "--head", "--port=0", "--dashboard-host=127.0.0.1", "--dashboard-port=0", "--block"]
    arguments = [*command, f"--temp-dir={folder}", "--disable-usage-stats"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        os.environ["RAY_ADDRESS"] = _address(process)
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        process.terminate()
        process.wait(timeout=READY_SECONDS)


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stdout or ():
        said.append(line)
        if found := re.search(r"--address='([^']+)'", line):
            return found[1]
    raise SystemExit(f"board.py: Ray did not start: {''.join(said[-5:])}")


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Prometheus on what Ray's own service discovery lists; gives its address."""
    discovery = folder / "ray" / "prom_metrics_service_discovery.json"
    settings = folder / "prometheus.yml"
    settings.write_text(PROMETHEUS.format(discovery=discovery))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    arguments: Sequence[str] = (
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    process = subprocess.Popen(["prometheus", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(address)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=READY_SECONDS)


def _wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            asked(address, "vector(1)")
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"board.py: Prometheus at {address} does not answer") from None
            time.sleep(0.5)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
