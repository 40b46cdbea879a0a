"""Samples per second of many small trials on one device: packed into one batched model, beside a process per trial.

    python benchmarks/packing.py [--device cuda] [--pack 10] [--batch 128] [--seconds 3] [--rounds 5] [--json FILE]

Needs neither Ray nor a network. On a GPU the peer is `--pack` processes that train at the same time, so that each has
a tenth of the device where there are ten, and time is wall time. A CPU's core would only hand them around, so there
the peer is one trial alone on one core, and time is the processes' own. All of them train as a sweep does.
`--plain` takes the plain open_clip loop (float32, torch's default attention) for the peer instead.
"""

import argparse
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.feed import TrialData, load_mad_arrays, require_mad_data
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from row import Row, write_rows
from training_step import Nowhere, plain_open_clip

TARGET, WANTED = 8.0, 10.0
WARM_UP_SECONDS = 2.0
ATTRIBUTES = 6

Advance = Callable[[float], int]


class Turn(NamedTuple):
    """What one process did in its turn."""

    steps: int
    own_seconds: float


class Side(NamedTuple):
    """What is timed: `trials` of them in each of `processes`."""

    name: str
    processes: int
    trials: int
    plain: bool = False


class Setting(NamedTuple):
    """What both sides share."""

    device: str
    batch: int

    def config(self, index: int) -> TrialConfig:
        """Trials differ in their captions; each is evaluated at its start and end alone."""
        return TrialConfig(
            data=MadData(captions=MadCaptions(attributes=index % ATTRIBUTES)),
            train=Train(samples=10**9, batch_size=self.batch),
            evaluate=Evaluate(every=10**9, gallery=2),
        )


def trainer(side: Side, setting: Setting, first: int, data: TrialData) -> Advance:
    """Trains trials from number `first` on for about some seconds, as a sweep does; gives the steps taken."""
    device = torch.device(setting.device)
    if side.plain:
        return by_the_clock(plain_open_clip(setting.config(first), data, seed=first, device=device))
    numbers = range(first, first + side.trials)
    run = TrainingRun(
        [TrialState(setting.config(number), number, data, Nowhere(), device) for number in numbers], device
    )
    while not all(member.evaluated for member in run.members):
        run.train_for(0.0)

    def advance(seconds: float) -> int:
        before = run.members[0].steps
        run.train_for(seconds)
        return run.members[0].steps - before

    return advance


def by_the_clock(step: Callable[[], float]) -> Advance:
    """Takes steps until the time is up."""

    def advance(seconds: float) -> int:
        steps, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            step()
            steps += 1
        return steps

    return advance


def serve(side: Side, setting: Setting, first: int, turns: Connection) -> None:
    """Answers each wish for seconds with the steps taken and the process's own seconds, until it is told 0."""
    torch.set_num_threads(1)
    advance = trainer(side, setting, first, load_mad_arrays(require_mad_data(setting.config(0))))
    advance(WARM_UP_SECONDS)
    turns.send(Turn(0, 0.0))
    while seconds := turns.recv():
        began = time.process_time()
        turns.send(Turn(advance(seconds), time.process_time() - began))


class Running:
    """A side's processes, which take their turns together."""

    def __init__(self, side: Side, setting: Setting) -> None:
        context = get_context("spawn")
        self._side, self._setting = side, setting
        self._pipes: list[Connection] = []
        self._processes = []
        for index in range(side.processes):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            self._processes.append(context.Process(target=serve, args=(side, setting, index * side.trials, theirs)))
            self._processes[-1].start()
            theirs.close()  # so that a process that dies is noticed
        self._answers()

    def rate(self, seconds: float) -> float:
        """Samples per second of all its trials."""
        began = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(seconds)
        turns = self._answers()
        elapsed = time.perf_counter() - began
        if self._setting.device == "cpu":
            elapsed = sum(turn.own_seconds for turn in turns)
        return sum(turn.steps for turn in turns) * self._side.trials * self._setting.batch / elapsed

    def _answers(self) -> list[Turn]:
        try:
            return [pipe.recv() for pipe in self._pipes]
        except EOFError:
            raise SystemExit(f"{self._side.name}: a process died; what it said stands above") from None

    def end(self) -> None:
        """Lets the processes go."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(0)
            process.join()


def compare(setting: Setting, pack: int, seconds: float, rounds: int, plain: bool) -> Row:
    """Both sides in turns; the ratio is the median of the rounds' ratios."""
    on_gpu = setting.device != "cpu"
    peer = Side("plain open_clip" if plain else "a process per trial", pack if on_gpu else 1, 1, plain)
    sides = [Running(side, setting) for side in (peer, Side("packed", 1, pack))]
    found = [[side.rate(seconds) for side in sides] for _ in range(rounds)]
    for side in sides:
        side.end()
    return Row(
        what=f"packing of {pack} trials, batch {setting.batch}, {setting.device}",
        unit="samples/s",
        peer_name=peer.name,
        peer=median(other for other, _ in found),
        ours=median(mine for _, mine in found),
        ratio=median(mine / other for other, mine in found),
        target=TARGET if on_gpu else None,
        wanted=WANTED if on_gpu else None,
        limited_by=limit(on_gpu),
    )


def limit(on_gpu: bool) -> str:
    """What keeps the figure from being better."""
    if on_gpu:
        return "to be profiled where a GPU is at hand"
    return "a CPU core's products are as fast alone; packing is for GPUs, whose kernels a small model cannot fill"


def main() -> None:
    """Prints the two rates and their ratio, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pack", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0, help="a turn's length")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain", action="store_true", help="compare with the plain open_clip loop")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    setting = Setting(arguments.device, arguments.batch)
    row = compare(setting, arguments.pack, arguments.seconds, arguments.rounds, arguments.plain)
    table = Table(row.peer_name, "packed", "ratio", "target on a GPU", title=row.what)
    table.add_row(f"{row.peer:,.0f}", f"{row.ours:,.0f}", f"{row.ratio:.2f}", f"{TARGET:.0f}")
    Console().print(table)
    write_rows([row], arguments.json)


if __name__ == "__main__":
    main()
