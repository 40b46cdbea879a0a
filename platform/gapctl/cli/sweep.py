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
    from gapctl.sweep.budget import Allowance
    from gapctl.sweep.driver import Remainder, SweepOutcome
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
    from gapctl.cli.options import plan_for
    from gapctl.data.mad.images import available_cores
    from gapctl.ledger import Ledger
    from gapctl.sweep.capacity import check_this_machine
    from gapctl.tracking.store import check_uri
    from gapctl.tracking.tracker import Tracker

    plan, ledger, console = plan_for(file, scale, overrides), Ledger(runs), SafeConsole()
    check_uri(plan.sweep.spec.tracking.uri)
    if address is None:
        check_this_machine(plan.sweep.spec.resources, available_cores())
    ledger.require_writable()
    allowance = allowance_of(plan, ledger, address)
    if plan.sweep.spec.search is not None:
        from gapctl.cli.search import run_search_of

        run_search_of(plan, ledger, allowance, address, console)
        return
    ledger.declare(plan)
    todo = _todo(plan, ledger, console)
    if todo.left:
        find_cluster(address, console)
        clear_leftovers(plan, ledger, console)
        check_room(rooms_for(plan, todo.left, ledger, address), console, estimated_high=address is not None)
    with Tracker(plan, ledger, plan.sweep.spec.tracking.uri) as tracker:
        outcome = _train(plan, todo, ledger, tracker, allowance, address, console)
        ledger.note_begun(plan.sweep.spec.name)
        ended_early = outcome.interrupted and bool(allowance.reached or outcome.reason)
        if not outcome.interrupted or ended_early:
            _judge(plan, ledger, tracker, console)
        tracked = tracker.close()
    stopped = stopped_text(plan, ledger, allowance, outcome.reason) if ended_early else None
    labels = {trial.id: trial.label for trial in plan.trainings}
    conclude([*todo.damaged.values(), tracked.problem], outcome, labels, stopped, console)


def _todo(plan: "Plan", ledger: "Ledger", console: "Console") -> "Remainder":
    from gapctl.sweep.driver import remainder

    todo = remainder(plan, ledger)
    done, total = len(todo.done), len(todo.done) + len(todo.left) + len(todo.damaged)
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    left = "nothing is left to do" if done == total else f"{len(todo.left)} of {total} trials to train"
    kept = f", {done} done before" if 0 < done < total else ""
    console.print(f"{plan.sweep.spec.name}{scale}: {left}{kept}", highlight=False)
    return todo


def _train(
    plan: "Plan",
    todo: "Remainder",
    ledger: "Ledger",
    tracker: "Tracker",
    allowance: "Allowance",
    address: str | None,
    console: "Console",
) -> "SweepOutcome":
    from gapctl.cli.data_mad import load_data
    from gapctl.sweep.driver import SweepOutcome, run_trials
    from gapctl.sweep.gauges import SweepGauges
    from gapctl.sweep.progress import LiveTable, LogLines, Tracked

    if not todo.left:
        return SweepOutcome()
    gauges = SweepGauges(plan.sweep.spec.name, todo.left, len(todo.done))
    shown = LiveTable if console.is_terminal else LogLines

    def train() -> "SweepOutcome":
        with shown(todo.left, len(todo.done), console) as display:
            return run_trials(
                todo.left,
                ledger,
                sweep=plan.sweep.spec.name,
                resources=plan.sweep.spec.resources,
                load=lambda data: load_data(data, console, announce=True),
                watchers=[display, Tracked(tracker), gauges],
                address=address,
                stopped=lambda: bool(allowance.reached),
            )

    return within(allowance, train)


def _judge(plan: "Plan", ledger: "Ledger", tracker: "Tracker", console: "Console") -> None:
    from gapctl.analysis.analyze import analyze
    from gapctl.cli.run_record import REPORT, background_of, findings_of
    from gapctl.cli.verdict_table import print_verdicts
    from gapctl.ledger import AsRead

    as_read = AsRead(ledger.root)
    analysis = analyze(plan, as_read)
    if not len(analysis.trials):
        return
    print_verdicts(analysis, console)
    tracker.catch_up()  # so that the report links to every run
    findings = findings_of(analysis, background_of(plan, as_read))
    tracker.tell(findings)
    keep_report(plan, findings.files[REPORT], ledger, console)


INTERRUPTED = 130
OURS = re.compile(r"^gapctl\.[\w.]+Error: ")
"""How the last line of a traceback begins that says in words what is wrong."""
ACCIDENT = f"{WorkError.__module__}.{WorkError.__qualname__}: "
"""How the last line of a traceback begins that a ledger brought about which could not be read or written."""


def within(allowance: "Allowance", train: "Callable[[], SweepOutcome]") -> "SweepOutcome":
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


def keep_report(plan: "Plan", page: bytes, ledger: "Ledger", console: "Console") -> None:
    """Keeps the page in the ledger, and says where it and the runs are to be seen."""
    from gapctl.plan.command_line import for_ui

    where = ledger.keep_report(plan, page)
    lines = f"report: {where}\nruns in MLflow: {shlex.join(['gapctl', 'ui', *for_ui(plan.sweep)])}"
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


def conclude(
    problems: Iterable[str | None],
    outcome: "SweepOutcome",
    labels: Mapping[str, str],
    stopped: str | None,
    console: "Console",
) -> None:
    """Tells all problems and exits as they ask for; `stopped` says why the limits ended it, if they did."""
    told = [*filter(None, [*problems, stopped])]
    told += [
        f"{labels[trial_id]} ({trial_id}) {_what_became(trial_id, message)}"
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


def _what_became(trial_id: str, message: str) -> str:
    """A training that was wrong has a traceback to look at; one whose ledger failed it has a reason, and goes on."""
    last = message.strip().splitlines()[-1]
    if last.startswith(ACCIDENT):
        return f"was not finished: {last.removeprefix(ACCIDENT)}"
    last = OURS.sub("", last)
    where = f"its traceback is in {trial_id}/failure.txt of the runs folder"
    return f"failed: {last}; {where}, and the same command tries it again"


WITH_MACHINES: Final = "The same command goes on once there is such a machine, or with smaller `resources`."


def allowance_of(plan: "Plan", ledger: "Ledger", address: str | None) -> "Allowance":
    """The plan's limits, with what earlier runs spent of them.

    Raises InputError for a limit of money on this machine where nobody knows what it costs.
    """
    from gapctl.cluster.running_cost import Bill
    from gapctl.config.base import Problem
    from gapctl.sweep.budget import Allowance
    from gapctl.sweep.ray_session import asking

    limits = plan.sweep.spec.limits
    if limits.cost is not None and address is None and price_here(limits) is None:
        text = (
            f"found {limits.cost:g}, but of this machine no price is known; expected limits.price_per_hour beside it "
            "(what an hour of this machine costs you), or limits.hours instead"
        )
        raise InputError(plan.sweep.located(Problem(("limits", "cost"), text)))
    return Allowance(plan, ledger, Bill(limits.price_per_hour, asking))


def price_here(limits: "Limits") -> float | None:
    """What an hour of this machine costs: by the table, if it is a cloud's, else as the file says."""
    from gapctl.cluster.cost import shipped_prices
    from gapctl.cluster.running_cost import price_of, this_machine

    return price_of(this_machine(), shipped_prices(), limits.price_per_hour)


def beyond_limits(plan: "Plan", ledger: "Ledger", left: "Cost") -> list[str]:
    """What `gapctl plan` says of the limits before anything runs."""
    from gapctl.ledger.preregistration import scale_name
    from gapctl.plan.estimate import beyond

    limits = plan.sweep.spec.limits
    if not limits.any:
        return []
    spent = ledger.spent(plan.sweep.spec.name, scale_name(plan))
    price = price_here(limits) if limits.cost is not None else None
    return beyond(limits, left.wall_hours, price, spent.hours, spent.cost)


def stopped_text(plan: "Plan", ledger: "Ledger", allowance: "Allowance", reason: str) -> str:
    """Why the sweep stopped, what is left, and how to go on; `reason` is the cluster's, where no limit was reached."""
    from gapctl.sweep.driver import remainder

    few = f" ({allowance.unpriced} machines of unknown price were not counted)" if allowance.unpriced else ""
    left, all_ = len(remainder(plan, ledger).left), len(plan.trainings)
    why, how = (f"{allowance.reached}{few}", allowance.how_to_go_on) if allowance.reached else (reason, WITH_MACHINES)
    return (
        f"{why}; {left} of {all_} trainings are left, those in training with checkpoints, and the "
        f"verdicts are about what is there. {how}"
    )


AMPLE: Final = 2.0
"""Times as much as is needed, below which there is a warning."""
ELSEWHERE: Final = {
    "the ledger": "another ledger with --runs",
    "MLflow": "another tracking.uri",
    "Ray": "another temporary folder with RAY_TMPDIR",
}


class Room(NamedTuple):
    """One disk: what is kept there, the folder by which it is known, and bytes needed and free."""

    users: tuple[str, ...]
    folder: str
    needed: float
    free: float

    @property
    def state(self) -> str:
        """What a person is told of it."""
        users = ", ".join(self.users)
        return f"{self.folder} has {_size(self.free)} free, and {users} will take about {_size(self.needed)} there"


def rooms_for(plan: "Plan", left: "Sequence[Trial]", ledger: "Ledger", address: str | None) -> list[Room]:
    """The disks of this machine that training what is left will write to; object stores and servers have none."""
    from gapctl.plan.estimate import slots_on, space_of
    from gapctl.sweep.ray_session import default_ray_folder
    from gapctl.tracking.store import database_file

    resources = plan.sweep.spec.resources
    at_once = slots_on(plan, os.cpu_count() or 1) * resources.pack if address is None else len(left)
    space = space_of(left, at_once)
    database = database_file(plan.sweep.spec.tracking.uri)
    wanted = [
        ("the ledger", ledger.disk, space.ledger),
        ("MLflow", None if database is None else database.parent, space.mlflow),
        ("Ray", default_ray_folder() if address is None else None, space.ray),
    ]
    by_disk: dict[int, Room] = {}
    for user, folder, needed in wanted:
        if folder is not None and needed:
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            disk = existing.stat().st_dev
            known = by_disk.get(disk, Room((), str(folder), 0.0, float(shutil.disk_usage(existing).free)))
            by_disk[disk] = known._replace(users=(*known.users, user), needed=known.needed + needed)
    return list(by_disk.values())


def clear_leftovers(plan: "Plan", ledger: "Ledger", console: "Console") -> None:
    """Deletes what killed writers left on a disk of this machine; a store leaves nothing half written."""
    found = ledger.leftovers([trial.id for trial in plan.trainings]) if ledger.disk is not None else []
    ledger.delete(found)
    if found:
        size = f"{sum(each.bytes for each in found) / 1e6:,.1f} MB"
        console.print(f"deleted {len(found)} files ({size}) that killed processes left", highlight=False)


def check_room(rooms: Sequence[Room], console: "Console", *, estimated_high: bool = False) -> None:
    """Warns where a disk has less than twice what is needed; raises InputError where it has less than that.

    It only warns where the need is `estimated_high`: of a cluster it is not known how many trainings run at a time.
    """
    for room in rooms:
        if room.free < room.needed and not estimated_high:
            others = " or ".join(ELSEWHERE[user] for user in room.users)
            raise InputError(f"{room.state}; make room, or give {others}. Nothing was started")
        if room.free < AMPLE * room.needed:
            console.print(f"little room: {room.state}", highlight=False, markup=False, soft_wrap=True)


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def find_cluster(address: str | None, console: "Console") -> None:
    """Raises InputError where no cluster answers at an address; None is this machine."""
    if address is None:
        return
    from gapctl.sweep.ray_session import check_address

    with console.status(f"looking for a Ray cluster at {address}"):
        check_address(address)


@contextmanager
def local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it in the end."""
    from gapctl.sweep.ray_session import prepare_environment, started_ray

    prepare_environment(RAY_DATA_DISABLE_PROGRESS_BARS="1")
    import ray
    import ray.data

    with started_ray(num_cpus=workers):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()
