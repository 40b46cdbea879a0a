"""`gapctl sweep`: train what a sweep still lacks, show the progress, and end with the verdicts.

1. `sweep_command` loads the plan and checks the machine, the ledger and the budget; a file with `search` goes to
   `search.py`.
2. `_find_remaining` lists the trials to train. `require_cluster`, `delete_garbage` and `check_disk_space` prepare for
   them.
3. `_train_remaining` trains them on Ray, within the budget of hours and money (`train_within_budget`).
4. `_judge_sweep` prints the verdicts and stores the report.
5. `exit_on_problems` prints failures and chooses the exit code.
"""

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
    from gapctl.data.shard_jobs import count_available_cores
    from gapctl.ledger import Ledger
    from gapctl.sweep.capacity import check_this_machine
    from gapctl.tracking.store import check_uri
    from gapctl.tracking.tracker import Tracker

    plan, ledger, console = load_plan(file, scale, overrides), Ledger(runs), SafeConsole()
    check_uri(plan.sweep.spec.tracking.uri)
    if address is None:
        check_this_machine(plan.sweep.spec.resources, count_available_cores())
    ledger.require_writable()
    budget = build_budget(plan, ledger, address)
    if plan.sweep.spec.search is not None:
        from gapctl.cli.search import run_search_sweep

        run_search_sweep(plan, ledger, budget, address, console)
        return
    ledger.declare_plan(plan)
    todo = _find_remaining(plan, ledger, console)
    if todo.left:
        require_cluster(address, console)
        delete_garbage(plan, ledger, console)
        check_disk_space(measure_disks(plan, todo.left, ledger, address), console, estimated_high=address is not None)
    with Tracker(plan, ledger, plan.sweep.spec.tracking.uri) as tracker:
        outcome = _train_remaining(plan, todo, ledger, tracker, budget, address, console)
        ledger.record_start(plan.sweep.spec.name)
        ended_early = outcome.interrupted and bool(budget.reached or outcome.reason)
        if not outcome.interrupted or ended_early:
            _judge_sweep(plan, ledger, tracker, console)
        tracked = tracker.close()
    stopped = explain_stop(plan, ledger, budget, outcome.reason) if ended_early else None
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
    budget: "Budget",
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
                stopped=lambda: bool(budget.reached),
            )

    return train_within_budget(budget, train)


def _judge_sweep(plan: "Plan", ledger: "Ledger", tracker: "Tracker", console: "Console") -> None:
    from gapctl.analysis.analyze import analyze_plan
    from gapctl.cli.run_record import REPORT_FILE, read_run_record, summarise_run
    from gapctl.cli.verdict_table import print_verdicts
    from gapctl.ledger import LedgerSnapshot

    snapshot = LedgerSnapshot(ledger.root)
    analysis = analyze_plan(plan, snapshot)
    if not len(analysis.trials):
        return
    print_verdicts(analysis, console)
    tracker.wait_until_shown()  # so that the report links to every run
    summary = summarise_run(analysis, read_run_record(plan, snapshot))
    tracker.tell(summary)
    store_report(plan, summary.files[REPORT_FILE], ledger, console)


INTERRUPTED = 130
GAPCTL_ERROR_PREFIX = re.compile(r"^gapctl\.[\w.]+Error: ")
"""The beginning of a traceback's last line that already states the problem in words."""
WORK_ERROR_PREFIX = f"{WorkError.__module__}.{WorkError.__qualname__}: "
"""The beginning of a traceback's last line where the ledger could not be read or written."""


def train_within_budget(budget: "Budget", train: "Callable[[], SweepOutcome]") -> "SweepOutcome":
    """Run `train` within the budget; return an interrupted outcome where a limit was reached before or during it."""
    from gapctl.sweep.driver import SweepOutcome

    if budget.reached:
        return SweepOutcome(interrupted=True)
    try:
        with budget:
            return train()
    except KeyboardInterrupt:
        if budget.reached:
            return SweepOutcome(interrupted=True)
        raise


def store_report(plan: "Plan", page: bytes, ledger: "Ledger", console: "Console") -> None:
    """Store the page in the ledger, and print where it and the runs can be seen."""
    from gapctl.plan.command_line import build_ui_arguments

    where = ledger.keep(f"{plan.sweep.spec.name}.{plan.sweep.scale_name}.report.html", page)
    lines = f"report: {where}\nruns in MLflow: {shlex.join(['gapctl', 'ui', *build_ui_arguments(plan.sweep)])}"
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


def exit_on_problems(
    problems: Iterable[str | None],
    outcome: "SweepOutcome",
    labels: Mapping[str, str],
    stopped: str | None,
    console: "Console",
) -> None:
    """Print all problems and exit with the code that they call for.

    `stopped` is the reason where a limit, or the cluster, ended the sweep early. Return where there is no problem.
    """
    lines = [*filter(None, [*problems, stopped])]
    lines += [
        f"{labels[trial_id]} ({trial_id}) {_explain_failure(trial_id, message)}"
        for trial_id, message in outcome.failures.items()
    ]
    for line in lines:
        typer.echo(f"gapctl: {line}", err=True)
    if outcome.interrupted and stopped is None:
        console.print(
            "Interrupted; the same command goes on from the checkpoints of what was in training",
            highlight=False,
        )
        raise typer.Exit(INTERRUPTED)
    if lines:
        raise typer.Exit(1)


def _explain_failure(trial_id: str, message: str) -> str:
    """Explain a failure: a training error has a traceback to read, a ledger error only a reason."""
    last = message.strip().splitlines()[-1]
    if last.startswith(WORK_ERROR_PREFIX):
        return f"was not finished: {last.removeprefix(WORK_ERROR_PREFIX)}"
    last = GAPCTL_ERROR_PREFIX.sub("", last)
    where = f"its traceback is in {trial_id}/failure.txt of the runs folder"
    return f"failed: {last}; {where}, and the same command tries it again"


RESUME_WITH_MACHINES: Final = "The same command goes on once there is such a machine, or with smaller `resources`."


def build_budget(plan: "Plan", ledger: "Ledger", address: str | None) -> "Budget":
    """Build the budget of the plan's limits, with what earlier runs spent of them.

    Raise InputError for a limit of money on this machine where its price is not known.
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
    """Return the price of an hour of this machine: by the table for a cloud's machine, else by the sweep file."""
    from gapctl.cluster.cost import load_shipped_prices
    from gapctl.cluster.running_cost import detect_machine_kind, find_price

    return find_price(detect_machine_kind(), load_shipped_prices(), limits.price_per_hour)


def list_exceeded_limits(plan: "Plan", ledger: "Ledger", left: "Cost") -> list[str]:
    """List the limits that the estimate exceeds, for `gapctl plan`, before anything runs."""
    from gapctl.plan.estimate import explain_exceeded_limits

    limits = plan.sweep.spec.limits
    if not limits.any:
        return []
    spent = ledger.spent(plan.sweep.spec.name, plan.sweep.scale_name)
    price = find_machine_price(limits) if limits.cost is not None else None
    return explain_exceeded_limits(limits, left.wall_hours, price, spent.hours, spent.cost)


def explain_stop(plan: "Plan", ledger: "Ledger", budget: "Budget", reason: str) -> str:
    """Explain why the sweep stopped, what is left, and how to resume; `reason` is the cluster's, if no limit's."""
    from gapctl.sweep.driver import find_remaining_work

    few = f" ({budget.unpriced} machines of unknown price were not counted)" if budget.unpriced else ""
    left, all_ = len(find_remaining_work(plan, ledger).left), len(plan.trainings)
    why, how = (f"{budget.reached}{few}", budget.resume_hint) if budget.reached else (reason, RESUME_WITH_MACHINES)
    return (
        f"{why}; {left} of {all_} trainings are left, those in training with checkpoints, and the "
        f"verdicts are about what is there. {how}"
    )


SPARE_FACTOR: Final = 2.0
"""The multiple of the needed space below which there is a warning."""
RELOCATION_HINTS: Final = {
    "the ledger": "another ledger with --runs",
    "MLflow": "another tracking.uri",
    "Ray": "another temporary folder with RAY_TMPDIR",
}


class DiskSpace(NamedTuple):
    """One disk: its users, the folder by which it is named, and the bytes needed and free."""

    users: tuple[str, ...]
    folder: str
    needed: float
    free: float

    @property
    def state(self) -> str:
        """A sentence on the free and the needed space."""
        users = ", ".join(self.users)
        return (
            f"{self.folder} has {_format_size(self.free)} free, and {users} will take about "
            f"{_format_size(self.needed)} there"
        )


def measure_disks(plan: "Plan", left: "Sequence[Trial]", ledger: "Ledger", address: str | None) -> list[DiskSpace]:
    """Measure the disks of this machine that training will write to; object stores and servers have none."""
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
    """Delete what killed writers left on a disk of this machine; object stores have no half-written files."""
    found = ledger.find_garbage([trial.id for trial in plan.trainings]) if ledger.disk is not None else []
    ledger.delete_files(found)
    if found:
        size = f"{sum(each.bytes for each in found) / 1e6:,.1f} MB"
        console.print(f"deleted {len(found)} files ({size}) that killed processes left", highlight=False)


def check_disk_space(disks: Sequence[DiskSpace], console: "Console", *, estimated_high: bool = False) -> None:
    """Warn where a disk has less than twice the needed space; raise InputError where it has less than needed.

    With `estimated_high` only warn: for a cluster it is unknown how many trainings run at a time.
    """
    for disk in disks:
        if disk.free < disk.needed and not estimated_high:
            others = " or ".join(RELOCATION_HINTS[user] for user in disk.users)
            raise InputError(f"{disk.state}; make room, or give {others}. Nothing was started")
        if disk.free < SPARE_FACTOR * disk.needed:
            console.print(f"little room: {disk.state}", highlight=False, markup=False, soft_wrap=True)


def _format_size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def require_cluster(address: str | None, console: "Console") -> None:
    """Raise InputError where no cluster answers at an address; do nothing for None, which is this machine."""
    if address is None:
        return
    from gapctl.sweep.ray_session import check_address

    with console.status(f"looking for a Ray cluster at {address}"):
        check_address(address)


@contextmanager
def start_local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it at the end."""
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
