"""What people wait for before anything happens: help, a plan, and the first training of a sweep.

    python benchmarks/starting.py [--rounds 5] [--json FILE]

The digits are made before the clock starts. A sweep's first training begins when its configuration is in the ledger:
Ray is up by then, and a process has imported all that trains. The sweep is then interrupted, and its end not timed.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gapctl.config.load import load_sweep
from gapctl.data.load import load_dataset
from process_cost import measured
from row import Row, report

LONGEST_SECONDS = 600.0
SWEEP = "imbalance"


def time_python(*arguments: str) -> float:
    """Seconds that one Python needs from its start to its end."""
    cost, _ = measured([sys.executable, *arguments])
    return cost.seconds


def time_first_training() -> float:
    """Seconds from the command to the first training; SystemExit where the sweep ends before."""
    with tempfile.TemporaryDirectory() as folder:
        return _time_first_training_in(Path(folder))


def _time_first_training_in(folder: Path) -> float:
    places = ["--runs", str(folder / "runs"), "--set", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"]
    began = time.monotonic()
    sweep = subprocess.Popen([sys.executable, "-m", "gapctl", "sweep", SWEEP, *places], stdout=subprocess.DEVNULL)
    try:
        while not any((folder / "runs").glob("*/trial.yaml")):
            if sweep.poll() is not None or time.monotonic() > began + LONGEST_SECONDS:
                raise SystemExit(f"no training began in {time.monotonic() - began:.0f} s")
            time.sleep(0.01)
        return time.monotonic() - began
    finally:
        sweep.send_signal(signal.SIGINT)
        sweep.wait()


class Wait(NamedTuple):
    """What people wait for, how it is measured, the imports beside it, and the seconds that are asked of it."""

    what: str
    measure: Callable[[], float]
    peer: str
    limited_by: str
    target: float
    wanted: float | None = None


WAITS = (
    Wait(
        "`gapctl --help`",
        lambda: time_python("-m", "gapctl", "--help"),
        "import typer, rich",
        "Typer draws help with Rich, and imports its Markdown and traceback for it",
        target=0.25,
    ),
    Wait(
        f"`gapctl plan {SWEEP}`",
        lambda: time_python("-m", "gapctl", "plan", SWEEP),
        "import typer, rich",
        "importing pydantic and building the models of a sweep file",
        target=0.4,
    ),
    Wait(
        "first training of a sweep, from the command",
        time_first_training,
        "import ray, torch",
        "a process imports torch, torchvision and open_clip once Ray is up",
        target=6.0,
        wanted=4.0,
    ),
)


def main() -> None:
    """Prints the medians, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    load_dataset(load_sweep(Path(SWEEP)).spec.base.data)
    seconds = defaultdict[str, list[float]](list)
    for _ in range(arguments.rounds):
        for wait in WAITS:
            seconds[wait.what].append(wait.measure())
        for imports in dict.fromkeys(wait.peer for wait in WAITS):
            seconds[imports].append(time_python("-c", imports))
    rows = [
        Row(
            wait.what,
            "s",
            median(seconds[wait.what]),
            wait.limited_by,
            peer_name=wait.peer,
            peer=median(seconds[wait.peer]),
            target=wait.target,
            wanted=wait.wanted,
            better="lower",
        )
        for wait in WAITS
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
