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
from pathlib import Path
from statistics import median

from gapctl.config.load import load_sweep
from gapctl.data.load import load_dataset
from process_cost import measured
from row import Row, report

HELP_SECONDS, PLAN_SECONDS, TRAINING_SECONDS, TRAINING_WANTED = 0.25, 0.4, 6.0, 4.0
LONGEST_SECONDS = 600.0
SWEEP = "imbalance"


def time_python(*arguments: str) -> float:
    """Seconds that one Python needs from its start to its end."""
    cost, _ = measured([sys.executable, *arguments])
    return cost.seconds


def time_first_training(folder: Path) -> float:
    """Seconds from the command to the first training; SystemExit where the sweep ends before."""
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


def main() -> None:
    """Prints the medians, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    load_dataset(load_sweep(Path(SWEEP)).spec.base.data)
    answers, plans, printers, trainings, imports = (
        list[float](),
        list[float](),
        list[float](),
        list[float](),
        list[float](),
    )
    for _ in range(arguments.rounds):
        printers.append(time_python("-c", "import typer, rich"))
        answers.append(time_python("-m", "gapctl", "--help"))
        plans.append(time_python("-m", "gapctl", "plan", SWEEP))
        imports.append(time_python("-c", "import ray, torch"))
        with tempfile.TemporaryDirectory() as folder:
            trainings.append(time_first_training(Path(folder)))
    rows = [
        Row(
            "`gapctl --help`",
            "s",
            median(answers),
            "Typer draws help with Rich, and imports its Markdown and traceback for it",
            peer_name="import typer, rich",
            peer=median(printers),
            target=HELP_SECONDS,
            better="lower",
        ),
        Row(
            f"`gapctl plan {SWEEP}`",
            "s",
            median(plans),
            "importing pydantic and building the models of a sweep file",
            peer_name="import typer, rich",
            peer=median(printers),
            target=PLAN_SECONDS,
            better="lower",
        ),
        Row(
            "first training of a sweep, from the command",
            "s",
            median(trainings),
            "a process imports torch, torchvision and open_clip once Ray is up",
            peer_name="import ray, torch",
            peer=median(imports),
            target=TRAINING_SECONDS,
            wanted=TRAINING_WANTED,
            better="lower",
        ),
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
