"""`gapctl sweep`: trains what is left of a sweep, shows how it goes, and ends in the verdicts."""

import logging
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.errors import InputError, WorkError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.config.sweep import Limits
    from gapctl.ledger import Ledger
    from gapctl.plan.estimate import Cost
    from gapctl.plan.plan import Plan, Trial
    from gapctl.sweep.budget import Budget
    from gapctl.sweep.driver import RemainingWork, SweepOutcome
    from gapctl.tracking.tracker import Tracker


def sweep_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    address: Annotated[
        str | None, typer.Option("--address", help="A running Ray cluster (`auto` on its head); else this machine.")
    ] = None,
) -> None:
    """Train what is left of a sweep on Ray, with MLflow beside it, then judge its hypotheses."""
    from gapctl.cli.console import SafeConsole
    from gapctl.cli.options import load_plan
    from gapctl.data.mad.images import count_available_cores
    from gapctl.ledger import Ledger
    from gapctl.sweep.capacity import check_this_machine
    from gapctl.tracking.store import check_uri
    from gapctl.tracking.tracker import Tracker

    plan, ledger, console = load_plan(file, scale, overrides), Ledger(runs), SafeConsole()
    check_uri(plan.sweep.spec.tracking.uri)
    if address is None:
        check_this_machine(plan.sweep.spec.resources, count_available_cores())
    ledger.require_writable()
    allowance = build_budget(plan, ledger, address)
    if plan.sweep.spec.search is not None:
        from gapctl.cli.search import run_search_sweep

        run_search_sweep(plan, ledger, allowance, address, console)
        return
    ledger.declare_plan(plan)
    todo = _find_remaining(plan, ledger, console)
    if todo.left:
        require_cluster(address, console)
        delete_garbage(plan, ledger, console)
        check_disk_space(measure_disks(plan, todo.left, ledger, address), console, estimated_high=address is not None)
    with Tracker(plan, ledger, plan.sweep.spec.tracking.uri) as tracker:
        outcome = _train_remaining(plan, todo, ledger, tracker, allowance, address, console)
        ledger.record_start(plan.sweep.spec.name)
        ended_early = outcome.interrupted and bool(allowance.reached or outcome.reason)
        if not outcome.interrupted or ended_early:
            _judge_sweep(plan, ledger, tracker, console)
        tracked = tracker.close()
    stopped = explain_stop(plan, ledger, allowance, outcome.reason) if ended_early else None
    labels = {trial.id: trial.label for trial in plan.trainings}
    exit_on_problems([*todo.damaged.values(), tracked.problem], outcome, labels, stopped, console)


def _find_remaining(plan: "Plan", ledger: "Ledger", console: "Console") -> "RemainingWork":
    from gapctl.sweep.driver import find_remaining_work

    todo = find_remaining_work(plan, ledger)
    done, total = len(todo.done), len(todo.done) + len(todo.left) + len(todo.damaged)
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    left = "nothing is left to do" if done == total else f"{len(todo.left)} of {total} trials to train"
    kept = f", {done} done before" if 0 < done < total else ""
    console.print(f"{plan.sweep.spec.name}{scale}: {left}{kept}", highlight=False)
    return todo


def _train_remaining(
    plan: "Plan",
    todo: "RemainingWork",
    ledger: "Ledger",
    tracker: "Tracker",
    allowance: "Budget",
    address: str | None,
    console: "Console",
) -> "SweepOutcome":
    from gapctl.cli.data_mad import load_data
    from gapctl.sweep.driver import SweepOutcome, run_trials
    from gapctl.sweep.gauges import SweepGauges
    from gapctl.sweep.progress import LiveTable, ProgressLog, TrackerWatcher

    if not todo.left:
        return SweepOutcome()
    gauges = SweepGauges(plan.sweep.spec.name, todo.left, len(todo.done))
    shown = LiveTable if console.is_terminal else ProgressLog

    def train() -> "SweepOutcome":
        with shown(todo.left, len(todo.done), console) as display:
            return run_trials(
                todo.left,
                ledger,
                sweep=plan.sweep.spec.name,
                resources=plan.sweep.spec.resources,
                load=lambda data: load_data(data, console, announce=True),
                watchers=[display, TrackerWatcher(tracker), gauges],
                address=address,
                stopped=lambda: bool(allowance.reached),
            )

    return train_within_budget(allowance, train)


def _judge_sweep(plan: "Plan", ledger: "Ledger", tracker: "Tracker", console: "Console") -> None:
    from gapctl.analysis.analyze import analyze_plan
    from gapctl.cli.run_record import REPORT_FILE, read_run_record, summarise_run
    from gapctl.cli.verdict_table import print_verdicts
    from gapctl.ledger import LedgerSnapshot

    as_read = LedgerSnapshot(ledger.root)
    analysis = analyze_plan(plan, as_read)
    if not len(analysis.trials):
        return
    print_verdicts(analysis, console)
    tracker.wait_until_shown()  # so that the report links to every run
    findings = summarise_run(analysis, read_run_record(plan, as_read))
    tracker.tell(findings)
    store_report(plan, findings.files[REPORT_FILE], ledger, console)


INTERRUPTED = 130
GAPCTL_ERROR_PREFIX = re.compile(r"^gapctl\.[\w.]+Error: ")
"""How the last line of a traceback begins that says in words what is wrong."""
WORK_ERROR_PREFIX = f"{WorkError.__module__}.{WorkError.__qualname__}: "
"""How the last line of a traceback begins that a ledger brought about which could not be read or written."""


def train_within_budget(allowance: "Budget", train: "Callable[[], SweepOutcome]") -> "SweepOutcome":
    """What `train` did; interrupted where the limits were reached, before it or meanwhile."""
    from gapctl.sweep.driver import SweepOutcome

    if allowance.reached:
        return SweepOutcome(interrupted=True)
    try:
        with allowance:
            return train()
    except KeyboardInterrupt:
        if allowance.reached:
            return SweepOutcome(interrupted=True)
        raise


def store_report(plan: "Plan", page: bytes, ledger: "Ledger", console: "Console") -> None:
    """Keeps the page in the ledger, and says where it and the runs are to be seen."""
    from gapctl.plan.command_line import build_ui_arguments

    where = ledger.save_report(plan, page)
    lines = f"report: {where}\nruns in MLflow: {shlex.join(['gapctl', 'ui', *build_ui_arguments(plan.sweep)])}"
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


def exit_on_problems(
    problems: Iterable[str | None],
    outcome: "SweepOutcome",
    labels: Mapping[str, str],
    stopped: str | None,
    console: "Console",
) -> None:
    """Tells all problems and exits as they ask for; `stopped` says why the limits ended it, if they did."""
    told = [*filter(None, [*problems, stopped])]
    told += [
        f"{labels[trial_id]} ({trial_id}) {_explain_failure(trial_id, message)}"
        for trial_id, message in outcome.failures.items()
    ]
    for problem in told:
        typer.echo(f"gapctl: {problem}", err=True)
    if outcome.interrupted and stopped is None:
        console.print(
            "Interrupted; the same command goes on from the checkpoints of what was in training",
            highlight=False,
        )
        raise typer.Exit(INTERRUPTED)
    if told:
        raise typer.Exit(1)


def _explain_failure(trial_id: str, message: str) -> str:
    """A training that was wrong has a traceback to look at; one whose ledger failed it has a reason, and goes on."""
    last = message.strip().splitlines()[-1]
    if last.startswith(WORK_ERROR_PREFIX):
        return f"was not finished: {last.removeprefix(WORK_ERROR_PREFIX)}"
    last = GAPCTL_ERROR_PREFIX.sub("", last)
    where = f"its traceback is in {trial_id}/failure.txt of the runs folder"
    return f"failed: {last}; {where}, and the same command tries it again"


RESUME_WITH_MACHINES: Final = "The same command goes on once there is such a machine, or with smaller `resources`."


def build_budget(plan: "Plan", ledger: "Ledger", address: str | None) -> "Budget":
    """The plan's limits, with what earlier runs spent of them.

    Raises InputError for a limit of money on this machine where nobody knows what it costs.
    """
    from gapctl.cluster.running_cost import RunningCost
    from gapctl.config.base import Problem
    from gapctl.sweep.budget import Budget
    from gapctl.sweep.ray_session import enter_gate

    limits = plan.sweep.spec.limits
    if limits.cost is not None and address is None and find_machine_price(limits) is None:
        text = (
            f"found {limits.cost:g}, but of this machine no price is known; expected limits.price_per_hour beside it "
            "(what an hour of this machine costs you), or limits.hours instead"
        )
        raise InputError(plan.sweep.locate_problem(Problem(("limits", "cost"), text)))
    return Budget(plan, ledger, RunningCost(limits.price_per_hour, enter_gate))


def find_machine_price(limits: "Limits") -> float | None:
    """What an hour of this machine costs: by the table, if it is a cloud's, else as the file says."""
    from gapctl.cluster.cost import load_shipped_prices
    from gapctl.cluster.running_cost import detect_machine_kind, find_price

    return find_price(detect_machine_kind(), load_shipped_prices(), limits.price_per_hour)


def list_exceeded_limits(plan: "Plan", ledger: "Ledger", left: "Cost") -> list[str]:
    """What `gapctl plan` says of the limits before anything runs."""
    from gapctl.ledger.preregistration import name_scale
    from gapctl.plan.estimate import explain_exceeded_limits

    limits = plan.sweep.spec.limits
    if not limits.any:
        return []
    spent = ledger.spent(plan.sweep.spec.name, name_scale(plan))
    price = find_machine_price(limits) if limits.cost is not None else None
    return explain_exceeded_limits(limits, left.wall_hours, price, spent.hours, spent.cost)


def explain_stop(plan: "Plan", ledger: "Ledger", allowance: "Budget", reason: str) -> str:
    """Why the sweep stopped, what is left, and how to go on; `reason` is the cluster's, where no limit was reached."""
    from gapctl.sweep.driver import find_remaining_work

    few = f" ({allowance.unpriced} machines of unknown price were not counted)" if allowance.unpriced else ""
    left, all_ = len(find_remaining_work(plan, ledger).left), len(plan.trainings)
    why, how = (
        (f"{allowance.reached}{few}", allowance.resume_hint) if allowance.reached else (reason, RESUME_WITH_MACHINES)
    )
    return (
        f"{why}; {left} of {all_} trainings are left, those in training with checkpoints, and the "
        f"verdicts are about what is there. {how}"
    )


SPARE_FACTOR: Final = 2.0
"""Times as much as is needed, below which there is a warning."""
RELOCATION_HINTS: Final = {
    "the ledger": "another ledger with --runs",
    "MLflow": "another tracking.uri",
    "Ray": "another temporary folder with RAY_TMPDIR",
}


class DiskSpace(NamedTuple):
    """One disk: what is kept there, the folder by which it is known, and bytes needed and free."""

    users: tuple[str, ...]
    folder: str
    needed: float
    free: float

    @property
    def state(self) -> str:
        """What a person is told of it."""
        users = ", ".join(self.users)
        return (
            f"{self.folder} has {_format_size(self.free)} free, and {users} will take about "
            f"{_format_size(self.needed)} there"
        )


def measure_disks(plan: "Plan", left: "Sequence[Trial]", ledger: "Ledger", address: str | None) -> list[DiskSpace]:
    """The disks of this machine that training what is left will write to; object stores and servers have none."""
    from gapctl.plan.estimate import count_slots, estimate_disk
    from gapctl.sweep.ray_session import find_default_ray_folder
    from gapctl.tracking.store import find_database_file

    resources = plan.sweep.spec.resources
    at_once = count_slots(plan, os.cpu_count() or 1) * resources.pack if address is None else len(left)
    space = estimate_disk(left, at_once)
    database = find_database_file(plan.sweep.spec.tracking.uri)
    wanted = [
        ("the ledger", ledger.disk, space.ledger),
        ("MLflow", None if database is None else database.parent, space.mlflow),
        ("Ray", find_default_ray_folder() if address is None else None, space.ray),
    ]
    by_disk: dict[int, DiskSpace] = {}
    for user, folder, needed in wanted:
        if folder is not None and needed:
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            disk = existing.stat().st_dev
            known = by_disk.get(disk, DiskSpace((), str(folder), 0.0, float(shutil.disk_usage(existing).free)))
            by_disk[disk] = known._replace(users=(*known.users, user), needed=known.needed + needed)
    return list(by_disk.values())


def delete_garbage(plan: "Plan", ledger: "Ledger", console: "Console") -> None:
    """Deletes what killed writers left on a disk of this machine; a store leaves nothing half written."""
    found = ledger.find_garbage([trial.id for trial in plan.trainings]) if ledger.disk is not None else []
    ledger.delete_files(found)
    if found:
        size = f"{sum(each.bytes for each in found) / 1e6:,.1f} MB"
        console.print(f"deleted {len(found)} files ({size}) that killed processes left", highlight=False)


def check_disk_space(rooms: Sequence[DiskSpace], console: "Console", *, estimated_high: bool = False) -> None:
    """Warns where a disk has less than twice what is needed; raises InputError where it has less than that.

    It only warns where the need is `estimated_high`: of a cluster it is not known how many trainings run at a time.
    """
    for room in rooms:
        if room.free < room.needed and not estimated_high:
            others = " or ".join(RELOCATION_HINTS[user] for user in room.users)
            raise InputError(f"{room.state}; make room, or give {others}. Nothing was started")
        if room.free < SPARE_FACTOR * room.needed:
            console.print(f"little room: {room.state}", highlight=False, markup=False, soft_wrap=True)


def _format_size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def require_cluster(address: str | None, console: "Console") -> None:
    """Raises InputError where no cluster answers at an address; None is this machine."""
    if address is None:
        return
    from gapctl.sweep.ray_session import check_address

    with console.status(f"looking for a Ray cluster at {address}"):
        check_address(address)


@contextmanager
def start_local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it in the end."""
    from gapctl.sweep.ray_session import prepare_environment, start_local_ray

    prepare_environment(RAY_DATA_DISABLE_PROGRESS_BARS="1")
    import ray
    import ray.data

    with start_local_ray(num_cpus=workers):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()
