"""Whether trainings on a GPU compute what a CPU's do, and how fast they are beside a plain open_clip loop.

    python benchmarks/gpu_check.py OUT [--device cuda] [--seconds 330] [--quick]

Needs torch, open_clip and gapctl's own training alone: no Ray, MLflow or network. Checks run in another process,
so that one which fails, dies or hangs is said and the rest goes on; together they end within `--seconds`. Writes
`gpu_check.json` and `gpu_check.md` into OUT after every check. `--quick` takes small models everywhere, to try the
script itself: `python benchmarks/gpu_check.py OUT --device cpu --quick`.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

import gpu_exact
import gpu_speed
from finding import Finding, markdown, write
from gapctl.training.hardware import read_processor_name
from gpu_speed import Case

LEAST_SECONDS = 5.0
"""Less is not worth starting a check for."""

Found = list[Finding]


class Check(NamedTuple):
    """Something to find out on a device, and the seconds after which it has failed."""

    name: str
    find: Callable[[torch.device], Found]
    seconds: float


def checks(seconds: float, quick: bool) -> list[Check]:
    """All of them, what matters most first; `seconds` are a measurement's."""
    exact = [
        Check("gradients", gpu_exact.gradients, 60),
        Check("micro-batches", gpu_exact.micro_batches, 30),
        Check("continued trainings", gpu_exact.continued, 30),
        Check("mad-tiny on GPU and CPU, packed and alone", gpu_exact.mad_trials, 90),
        Check("no waiting", gpu_exact.no_waiting, 30),
    ]
    batches = (256,) if quick else (110, 256, 512)
    cases = [Case(preset, batch) for preset in ("rn50-cc12m", "vit-b-32") for batch in batches]
    cases += [Case("vit-b-32", 512, compile=True), Case("rn50-cc12m", 256, compile=True)]
    cases += [Case("rn50-cc12m", 512, parts=2)]
    timed = [
        Check(f"speed of {case}", partial(_compare, case, seconds, quick), 120 if case.compile else 45)
        for case in cases
    ]
    return [*exact, *timed, Check("speed by hand", partial(_by_hand, seconds, quick), 45)]


def _compare(case: Case, seconds: float, quick: bool, device: torch.device) -> Found:
    return gpu_speed.compare(case, device, seconds, quick)


def _by_hand(seconds: float, quick: bool, device: torch.device) -> Found:
    return gpu_speed.by_hand(device, seconds, quick)


def serve(device: str, turns: Connection) -> None:
    """Answers each check with what it found, or with the last lines of why it failed, until it is sent None."""
    torch.set_num_threads(1)  # the CPU's side is small, and its sums are then the same everywhere
    while check := turns.recv():
        try:
            turns.send(check.find(torch.device(device)))
        except Exception:
            turns.send("".join(traceback.format_exc().splitlines(keepends=True)[-6:]).strip())


class Asked:
    """A process that answers checks; another takes its place after one that failed, which may have broken the GPU."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._start()

    def find(self, check: Check, seconds: float) -> Found:
        """What the check found within the seconds, or one finding that says why there is none."""
        self._turns.send(check)
        try:
            found: Found | str = self._turns.recv() if self._turns.poll(seconds) else f"not done after {seconds:.0f} s"
        except EOFError:
            found = "the process died without a word"
        if isinstance(found, list):
            return found
        self.end()
        self._start()
        return [Finding(check.name, None, "", note=found, failed=True)]

    def end(self) -> None:
        """Ends the process, whatever it does."""
        with suppress(OSError):
            self._turns.send(None)
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        context = get_context("spawn")
        self._turns, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self._device, theirs))
        self._process.start()
        theirs.close()


def machine_of(device: str) -> str:
    """The device's name and the versions that decide its speed."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else read_processor_name()
    return f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}"


def main() -> None:
    """Asks all checks in turn; exit code 1 where what is demanded does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for gpu_check.json and gpu_check.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=330.0, help="for everything together")
    parser.add_argument("--quick", action="store_true", help="small models, to try the script itself")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    machine = machine_of(arguments.device)
    asked = Asked(arguments.device)
    found: Found = []
    for check in checks(0.2 if arguments.quick else 2.0, arguments.quick):
        left = until - time.monotonic()
        if left < LEAST_SECONDS:
            found.append(Finding(check.name, None, "", note="left out: no time was left"))
            continue
        began = time.monotonic()
        new = asked.find(check, min(check.seconds, left))
        print(f"{check.name}: {time.monotonic() - began:.0f} s", flush=True)
        found += new
        write(found, machine, arguments.out)
    asked.end()
    write(found, machine, arguments.out)
    print(markdown(found, machine))
    raise SystemExit(any(each.ok is False for each in found))


if __name__ == "__main__":
    main()
