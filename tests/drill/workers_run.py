"""The drill of trials on several workers: each fault finds its worker in the moment that the schedule names.

Every process of a training passes the gates of `gate/sitecustomize.py`. A fault waits until one stands in the gate that
its order names, comes, and opens the gate. Machines are replaced and the command is given again, as a person would.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from drill.drilled_sweep import SHARED_SWEEP, DrilledSweep, kill_sweeps
from drill.local_cluster import LocalCluster
from drill.outcome import Happened, Outcome
from drill.processes import adopt_orphans, below, came_true, runs, signalled
from drill.promises import in_the_ledger_of_workers, reserved
from drill.worker_schedule import WorkerFault
from gapctl.ledger import Ledger
from gapctl.ledger.json_files import RESULT_FILE
from gapctl.ledger.trial import FAILURE

BATCH: Final = 32
STEPS_APART: Final = 4
"""Between two evaluations, each of which is followed by a checkpoint."""
FROZEN_SECONDS: Final = 10
"""After which Ray Train gives up a worker here; 60 by default."""
ENVIRONMENT: Final = {
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(FROZEN_SECONDS),
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
}
GATES: Final = Path(__file__).parent / "gate"
CONTROLLER, WAITING, TRAINING = "ray::TrainController", "ray::ResourceTrainable", ("RayTrainWorker", "Trainable")
NODES: Final = {1: 1, 2: 3, 4: 3}
"""By number of workers. One is spare, but where one is enough for all: there a second trial would begin."""
CPUS: Final = {1: 1, 2: 1, 4: 2}
END_SECONDS: Final = 60.0
LOSSES_AT_ONE_PLACE: Final = 2
Tell = Callable[[str], None]


@dataclass(frozen=True)
class WorkersSize:
    """How many trials of how many steps on how many workers, and between which other numbers they change.

    `patience` and `longest` are seconds to wait at most: for a training to go on, and for the whole.
    """

    trials: int
    steps: int
    workers: int
    numbers: tuple[int, ...]
    patience: float
    longest: float


class Standing(NamedTuple):
    """A process in a gate, as it noted itself."""

    pid: int
    rank: int
    step: int
    moment: str
    trial: str


def drill_workers(folder: Path, faults: list[list[WorkerFault]], size: WorkersSize, tell: Tell = print) -> Outcome:
    """Train a sweep in peace, then another of the same trials among `faults` (by trial), and compare.

    Processes that are left in the end are named in the outcome, then ended.
    """
    adopt_orphans()
    gate = folder / "gate"
    gate.mkdir()
    path = os.pathsep.join([str(GATES), *filter(None, [os.environ.get("PYTHONPATH")])])
    cluster = LocalCluster(folder, None, **ENVIRONMENT, PYTHONPATH=path, GAPCTL_DRILL_GATE=str(gate))
    samples, evaluations = size.steps * BATCH, size.steps // STEPS_APART
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    quiet, drilled = (
        DrilledSweep(folder, name, str(folder / name), tracking, size.trials, samples, SHARED_SWEEP, evaluations)
        for name in ("quiet", "drill")
    )
    quiet.workers = drilled.workers = size.workers
    try:
        cluster.start_head()
        _set_nodes(cluster, size.workers)
        began = time.monotonic()
        quiet.start(cluster.address, cluster.environment)
        if not came_true(lambda: quiet.code() is not None, size.longest) or quiet.code() != 0:
            raise AssertionError(f"the quiet sweep did not end well: {quiet.log.read_text()}")
        outcome = Outcome(size.trials, time.monotonic() - began, unit="steps")
        tell(f"the quiet sweep took {outcome.quiet_seconds:.0f} s")
        Attended(cluster, drilled, size, outcome, gate, tell).run(faults)
        broken, exact = in_the_ledger_of_workers(drilled, quiet)
        tell(f"{exact} of {size.trials} trials always had {size.workers} workers, and are compared to the byte")
        outcome.problems += broken
        outcome.problems += reserved(cluster)
        came_true(lambda: not _trainings(), END_SECONDS)
        outcome.problems += [f"still running: {command[:80]}" for command in _trainings()]
    finally:
        kill_sweeps(quiet, drilled)
        cluster.stop()
        came_true(lambda: not below(os.getpid()), END_SECONDS)
        stray = below(os.getpid())
        signalled([each.pid for each in stray], signal.SIGKILL)
    outcome.problems += [f"still there when all was stopped: {each.command[:80]}" for each in stray]
    return outcome


def _set_nodes(cluster: LocalCluster, workers: int) -> None:
    for node in list(cluster.nodes):
        cluster.drop(node)
    cluster.node_cpus = CPUS[workers]
    cluster.replace_lost_nodes(NODES[workers])
    cluster.wait_for_nodes()


def _trainings() -> list[str]:
    return [each.command for each in below(os.getpid()) if any(name in each.command for name in TRAINING)]


class Attended:
    """A sweep and whoever looks after it, and after the gates."""

    def __init__(
        self, cluster: LocalCluster, sweep: DrilledSweep, size: WorkersSize, outcome: Outcome, gate: Path, tell: Tell
    ) -> None:
        self._cluster, self._sweep, self._size, self._outcome = cluster, sweep, size, outcome
        self._gate, self._tell, self._began = gate, tell, time.time()
        self._changes, self._before = 0, set[int]()
        self._newest, self._losses = dict[str, Path | None](), dict[str, int]()

    def run(self, faults: list[list[WorkerFault]]) -> None:
        """Until the sweep has ended by itself, or the time is over."""
        left = dict(zip(self._sweep.ids, map(list, faults), strict=True))
        total = sum(map(len, faults))

        def reached() -> bool:
            self._give_orders(left)
            return self._ended() or self._read("reached.json") is not None

        self._give_orders(left)
        self._sweep.start(self._cluster.address, self._cluster.environment)
        while any(left.values()):
            if not came_true(reached, self._left_over) or (found := self._read("reached.json")) is None:
                break
            standing = Standing(**found)
            (self._gate / "reached.json").unlink()
            self._strike(left[standing.trial].pop(0), standing)
        missed = sum(map(len, left.values()))
        if missed:
            self._outcome.problems.append(f"{missed} of {total} faults found no trial in training")
        if not came_true(self._ended, max(self._left_over, self._size.patience)):
            self._outcome.problems.append(f"the sweep had not ended after {time.time() - self._began:.0f} s")
        self._outcome.seconds = time.time() - self._began
        self._outcome.commands = self._sweep.commands

    @property
    def _left_over(self) -> float:
        return self._size.longest - (time.time() - self._began)

    def _give_orders(self, left: dict[str, list[WorkerFault]]) -> None:
        """Name the gate that each trial's next fault waits for.

        A trial may be lost three times at one checkpoint. After two the next fault waits for another checkpoint.
        """
        for trial, faults in left.items():
            newest = max((Path(self._sweep.runs) / trial / "checkpoints").glob("0*.pt"), default=None)
            if newest != self._newest.get(trial):
                self._newest[trial], self._losses[trial] = newest, 0
            place, part = self._gate / f"order-{trial}.json", self._gate / "order.part"
            if faults and not place.exists() and self._losses.get(trial, 0) < LOSSES_AT_ONE_PLACE:
                rank = faults[0].rank if faults[0].moment == "step" else 0
                part.write_text(json.dumps({"moment": faults[0].moment, "step": faults[0].step, "rank": rank}))
                part.replace(place)

    def _strike(self, fault: WorkerFault, standing: Standing) -> None:
        victim, struck = self._find_victim(fault, standing), time.time()
        kind = getattr(self, "_" + fault.kind.replace(" ", "_"))(fault, victim)
        self._losses[standing.trial] = self._losses.get(standing.trial, 0) + (kind != "worker slow")
        (self._gate / f"order-{standing.trial}.json").unlink(missing_ok=True)
        mended = time.time()
        went_on = came_true(lambda: self._goes_on(kind, standing, mended), self._size.patience)
        again = self._read("worker-0.json") or {"step": standing.step, "trial": ""}
        lost = max(0, standing.step - again["step"]) if again["trial"] == standing.trial else 0
        self._outcome.happened.append(
            Happened(kind, struck - self._began, time.time() - struck if went_on else None, float(lost))
        )
        if not went_on:
            self._outcome.problems.append(f"nothing went on {self._size.patience:.0f} s after: {kind}")
        if kind == "worker frozen" and not came_true(lambda: not runs(victim), END_SECONDS):
            self._outcome.problems.append("a frozen worker was left")
        took = f"went on after {time.time() - struck:.0f} s" if went_on else "did not go on"
        self._tell(
            f"{len(self._outcome.happened):3d} {struck - self._began:6.0f} s {kind} at {standing.moment} "
            f"{standing.step} with {self._sweep.workers}: {took}"
        )

    def _find_victim(self, fault: WorkerFault, standing: Standing) -> int:
        if fault.moment == "step":
            return standing.pid
        note = self._read(f"worker-{fault.rank % self._sweep.workers}.json")
        return note["pid"] if note is not None and runs(note["pid"]) else standing.pid

    def _goes_on(self, kind: str, standing: Standing, since: float) -> bool:
        """Whether the first worker passed a gate again: another process of it, but after a slow one."""
        self._attend()
        if (Path(self._sweep.runs) / standing.trial / RESULT_FILE).exists():
            return True
        place, note = self._gate / "worker-0.json", self._read("worker-0.json")
        if note is None or place.stat().st_mtime < since:
            return False
        return kind == "worker slow" or note["pid"] not in self._before

    def _worker_killed(self, fault: WorkerFault, victim: int) -> str:
        self._before = self._workers_now()
        signalled([victim], signal.SIGKILL)
        return "worker killed"

    def _controller_killed(self, fault: WorkerFault, victim: int) -> str:
        return self._kill_by_name(CONTROLLER, fault.kind, fault, victim)

    def _waiting_process_killed(self, fault: WorkerFault, victim: int) -> str:
        return self._kill_by_name(WAITING, fault.kind, fault, victim)

    def _kill_by_name(self, name: str, kind: str, fault: WorkerFault, victim: int) -> str:
        """A trial on one worker has neither: it is that worker's process then."""
        found = [each.pid for each in below(os.getpid()) if name in each.command]
        if self._sweep.workers == 1 or not found:
            return self._worker_killed(fault, victim)
        self._before = self._workers_now()
        signalled(found, signal.SIGKILL)
        return kind

    def _worker_frozen(self, fault: WorkerFault, victim: int) -> str:
        """For good: who notices must end it. Nobody would that trains alone, so that one is slow."""
        if self._sweep.workers == 1:
            return self._worker_slow(fault, victim)
        self._before = self._workers_now()
        signalled([victim], signal.SIGSTOP)
        return "worker frozen"

    def _worker_slow(self, fault: WorkerFault, victim: int) -> str:
        self._before = set()
        signalled([victim], signal.SIGSTOP)
        time.sleep(fault.seconds)
        signalled([victim], signal.SIGCONT)
        return "worker slow"

    def _node_lost(self, fault: WorkerFault, victim: int) -> str:
        node = self._cluster.node_of(victim)
        if self._sweep.workers == 1 or node is None:
            return self._worker_killed(fault, victim)
        self._before = self._workers_now()
        self._cluster.drop(node)
        self._cluster.add_node()
        return "node lost"

    def _driver_killed(self, fault: WorkerFault, victim: int) -> str:
        self._before = self._workers_now()
        assert self._sweep.process is not None
        signalled([self._sweep.process.pid], signal.SIGKILL)
        self._sweep.process.wait(timeout=30)
        return "driver killed"

    def _number_changed(self, fault: WorkerFault, victim: int) -> str:
        self._driver_killed(fault, victim)
        before = self._sweep.workers
        self._sweep.workers = self._size.numbers[self._changes % len(self._size.numbers)]
        self._changes += 1
        _set_nodes(self._cluster, self._sweep.workers)
        return f"{before} to {self._sweep.workers} workers"

    def _workers_now(self) -> set[int]:
        return {each.pid for each in below(os.getpid())}

    def _ended(self) -> bool:
        self._attend()
        return self._sweep.code() == 0

    def _attend(self) -> None:
        """Replace nodes, give the command again where it was killed, and name each failure of a trial."""
        self._cluster.replace_lost_nodes(NODES[self._sweep.workers])
        code = self._sweep.code()
        if code in (None, 0):
            return
        if code != -signal.SIGKILL:
            self._outcome.problems.append(f"the command ended with {code}, see {self._sweep.log}")
            contents = Ledger(self._sweep.runs).contents(self._sweep.ids, FAILURE)
            self._outcome.problems += [
                f"{trial} was marked failed: {content.decode()[-200:]}"
                for trial, content in zip(self._sweep.ids, contents, strict=True)
                if isinstance(content, bytes)
            ]
        self._sweep.start(self._cluster.address, self._cluster.environment)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self._gate / name).read_text())
        except FileNotFoundError:
            return None
