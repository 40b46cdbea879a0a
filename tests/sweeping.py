"""Runs `gapctl sweep` to its end in this process, or as a process of its own that is ended the hard way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from command_line import Answer, gapctl
from forked import ForkedProcess
from gapctl.cli.main import run
from mlflow_database import write_empty_database

SMOKE = Path(__file__).parents[1] / "sweeps" / "imbalance.yaml"
COMMAND = (sys.executable, "-m", "gapctl")
Running = subprocess.Popen[str] | ForkedProcess
LONGEST_SECONDS = 240.0


def sweep_command(folder: Path, *more: str) -> list[str]:
    """The smoke scale of the imbalance sweep with its ledger and MLflow store below `folder`."""
    return command_for(SMOKE, folder, "--scale", "smoke", *more)


def command_for(file: Path, folder: Path, *more: str) -> list[str]:
    """Any sweep with its ledger and MLflow store below `folder`."""
    database = folder / "mlflow.db"
    if not database.exists():
        write_empty_database(database)
    places = ["--runs", str(folder / "runs"), "--set", f"tracking.uri=sqlite:///{database}"]
    return [*COMMAND, "sweep", str(file), *places, *more]


def run_sweep(folder: Path, *more: str) -> Answer:
    """A sweep to its end, in this process, which has imported already what a new one needs six seconds for."""
    return gapctl(*sweep_command(folder, *more)[len(COMMAND) :])


def run_sweep_of(file: Path, folder: Path, *more: str) -> Answer:
    """Any sweep to its end, in this process."""
    return gapctl(*command_for(file, folder, *more)[len(COMMAND) :])


def start_sweep(folder: Path, *more: str) -> ForkedProcess:
    """A sweep that goes on by itself."""
    return start_command(folder, *sweep_command(folder, *more)[len(COMMAND) :])


def start_sweep_of(file: Path, folder: Path, *more: str) -> ForkedProcess:
    """Any sweep that goes on by itself."""
    return start_command(folder, *command_for(file, folder, *more)[len(COMMAND) :])


def start_command(folder: Path, *arguments: str) -> ForkedProcess:
    """The command in a process of its own, which writes below `folder`; `communicate()[0]` is all that it said."""
    place = folder / f"process-{len(list(folder.glob('process-*')))}"
    return ForkedProcess(run, arguments, folder=place, together=True)


def wait_until(reached: Callable[[], bool], process: Running, seconds: float = LONGEST_SECONDS) -> None:
    """Returns at the moment that `reached` tells; fails if the process ends before or time runs out."""
    deadline = time.monotonic() + seconds
    while not reached():
        if process.poll() is not None:
            raise AssertionError(f"the sweep ended too early: {process.communicate()[0]}")
        if time.monotonic() > deadline:
            raise AssertionError("the sweep never came so far")
        time.sleep(0.02)


def kill_all(process: Running) -> None:
    """`kill -9` of the driver and of everything that it started, Ray's processes included."""
    victims = [process.pid, *descendants(process.pid)]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate(timeout=30)


def descendants(pid: int) -> Sequence[int]:
    """The processes that a process started, and those that they did."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.splitlines()
    children: dict[int, list[int]] = {}
    for line in lines:
        child, parent = (int(number) for number in line.split())
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found
