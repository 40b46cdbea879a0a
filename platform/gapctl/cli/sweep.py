"""`gapctl sweep`: train what a sweep still lacks, show the progress, and end with the verdicts.

1. `sweep_command` loads the plan and checks the machine, the ledger and the budget; a file with `search` goes to
   `search.py`.
2. `_find_remaining` lists the trials to train. `require_cluster`, `delete_abandoned_files` and `warn_of_full_disks`
  prepare
   for them.
3. `_train_remaining` trains them on Ray, within the budget of hours and money (`train_within_budget`).
4. `_judge_sweep` prints the verdicts and stores the report.
5. `exit_after_training` prints failures and chooses the exit code.
"""

import logging
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gapctl.cli.console import SafeConsole
from gapctl.cli.data import load_data
from gapctl.cli.options import (
    DEFAULT_RUNS,
    AddressOption,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    load_plan,
    refuse_future_first_question,
)
from gapctl.cli.output import format_megabytes, print_problems
from gapctl.cli.report_contents import REPORT_FILE, analyze_for_report, read_run_record_with_pages, summarise_run
from gapctl.cli.verdict_table import print_verdicts
from gapctl.cluster.running_cost import RunningCost, find_machine_price
from gapctl.config.base import Problem
from gapctl.errors import INTERRUPTED, InputError, WorkError
from gapctl.io.passwords import hide_password
from gapctl.ledger import Ledger, LedgerSnapshot
from gapctl.plan.command_line import build_ledger_arguments, build_ui_arguments, format_result_file_prefix
from gapctl.plan.plan import Plan, Trial
from gapctl.sweep.budget import Budget
from gapctl.sweep.disk_space import check_disk_space, measure_disks
from gapctl.sweep.progress import LiveTable, ProgressLog
from gapctl.sweep.ray_session import check_address, set_ray_environment
from gapctl.sweep.ray_session import start_local_ray as start_ray
from gapctl.tracking.store import check_uri
from gapctl.tracking.tracker import Tracker

if TYPE_CHECKING:
    from gapctl.sweep.driver import RemainingWork, SweepOutcome

GAPCTL_ERROR_PREFIX = re.compile(r"^gapctl\.[\w.]+Error: ")
"""The beginning of a traceback's last line that already states the problem in words."""
WORK_ERROR_PREFIX = f"{WorkError.__module__}.{WorkError.__qualname__}: "
"""The beginning of a traceback's last line where the ledger could not be read or written."""
RESUME_WITH_MACHINES: Final = "The same command goes on once there is such a machine, or with smaller `resources`."


def sweep_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    address: AddressOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", hidden=True)] = False,
) -> None:
    """Train what is left of a sweep on Ray, with MLflow beside it, then judge its hypotheses."""
    if dry_run:
        settings = [word for text in overrides or () for word in ("--set", hide_password(text))]
        options = [*(["--scale", scale] if scale else []), *settings, *build_ledger_arguments(runs)]
        command = shlex.join(["gapctl", "plan", str(file), *options])
        raise InputError(f"--dry-run: a sweep has none; `{command}` lists what it would train, and runs nothing")
    from gapctl.data.parallel_shards import count_available_cores
    from gapctl.sweep.capacity import check_machine_capacity

    plan, ledger, console = load_plan(file, scale, overrides), Ledger(runs), SafeConsole()
    refuse_future_first_question(plan.sweep)
    check_uri(plan.sweep.spec.tracking.uri)
    if address is None:
        check_machine_capacity(plan.sweep.spec.resources, count_available_cores())
    ledger.require_writable()
    budget = _build_budget(plan, ledger, address)
    if plan.sweep.spec.search is not None:
        from gapctl.cli.search import run_search_sweep

        run_search_sweep(plan, ledger, budget, address, console)
        return
    ledger.declare_plan(plan)
    todo = _find_remaining(plan, ledger, console)
    if todo.left:
        require_cluster(address, console)
        delete_abandoned_files(plan, ledger, console)
        warn_of_full_disks(plan, todo.left, ledger, address, console)
    with Tracker(plan, ledger, plan.sweep.spec.tracking.uri) as tracker:
        outcome = _train_remaining(plan, todo, ledger, tracker, budget, address, console)
        ledger.record_start(plan.sweep.spec.name)
        ended_early = outcome.interrupted and bool(budget.reached or outcome.reason)
        if not outcome.interrupted or ended_early:
            _judge_sweep(plan, ledger, tracker, console)
        tracked = tracker.close()
    stopped = _explain_stop(plan, ledger, budget, outcome.reason) if ended_early else None
    labels = {trial.id: trial.label for trial in plan.trainings}
    exit_after_training([*todo.damaged.values(), tracked.problem], outcome, labels, stopped, console)


def _find_remaining(plan: Plan, ledger: Ledger, console: SafeConsole) -> "RemainingWork":
    from gapctl.sweep.driver import find_remaining_work

    todo = find_remaining_work(plan, ledger)
    done, total = len(todo.done), len(todo.done) + len(todo.left) + len(todo.damaged)
    scale = f", scale {plan.sweep.scale}" if plan.sweep.scale else ""
    left = "nothing is left to do" if done == total else f"{len(todo.left)} of {total} trials to train"
    kept = f", {done} done before" if 0 < done < total else ""
    console.print(f"{plan.sweep.spec.name}{scale}: {left}{kept}")
    return todo


def _train_remaining(
    plan: Plan,
    todo: "RemainingWork",
    ledger: Ledger,
    tracker: Tracker,
    budget: Budget,
    address: str | None,
    console: SafeConsole,
) -> "SweepOutcome":
    from gapctl.sweep.driver import SweepOutcome, run_trials
    from gapctl.sweep.gauges import SweepGauges

    if not todo.left:
        return SweepOutcome()
    spec, shown = plan.sweep.spec, LiveTable if console.is_terminal else ProgressLog
    gauges = SweepGauges(spec.name, todo.left, len(todo.done))

    def train() -> "SweepOutcome":
        with shown(todo.left, len(todo.done), console) as display:
            return run_trials(
                todo.left,
                ledger,
                sweep=spec.name,
                resources=spec.resources,
                load=lambda data: load_data(data, console, announce=True),
                watchers=[display, tracker, gauges],
                address=address,
                stopped=budget.check_limits,
            )

    return train_within_budget(budget, train)


def _judge_sweep(plan: Plan, ledger: Ledger, tracker: Tracker, console: SafeConsole) -> None:
    snapshot = LedgerSnapshot(ledger.root)
    analysis = analyze_for_report(plan, snapshot)
    if not len(analysis.trials):
        return
    print_verdicts(analysis, console)
    tracker.wait_until_shown()  # so that the report links to every run
    snapshot.pack_results([trial.id for trial in plan.trainings])
    summary = summarise_run(analysis, read_run_record_with_pages(plan, snapshot))
    tracker.tell(summary)
    store_and_announce_report(plan, summary.files[REPORT_FILE], ledger, console)


def train_within_budget(budget: Budget, train: "Callable[[], SweepOutcome]") -> "SweepOutcome":
    """Run `train` within the budget; return an interrupted outcome where a limit was reached before or during it."""
    from gapctl.sweep.driver import SweepOutcome

    if budget.reached:
        return SweepOutcome(interrupted=True)
    with budget:
        return train()


def store_and_announce_report(plan: Plan, page: bytes, ledger: Ledger, console: SafeConsole) -> None:
    """Store the page in the ledger, and print where it and the runs can be seen."""
    where = ledger.keep(f"{format_result_file_prefix(plan.sweep)}.report.html", page)
    lines = f"report: {where}\nruns in MLflow: {shlex.join(['gapctl', 'ui', *build_ui_arguments(plan.sweep)])}"
    console.print(lines, soft_wrap=True)


def exit_after_training(
    problems: Iterable[str | None],
    outcome: "SweepOutcome",
    labels: Mapping[str, str],
    stopped: str | None,
    console: SafeConsole,
) -> None:
    """Print all problems and exit with the code that they call for.

    `stopped` is the reason where a limit, or the cluster, ended the sweep early. Return where there is no problem.
    """
    lines = [*filter(None, [*problems, stopped])]
    for trial_id, message in outcome.failures.items():
        last = message.strip().splitlines()[-1]
        if last.startswith(WORK_ERROR_PREFIX):  # not of the training, so that there is no traceback to read
            failed = f"was not finished: {last.removeprefix(WORK_ERROR_PREFIX)}"
        else:
            where = f"its traceback is in {trial_id}/failure.txt of the runs folder"
            failed = f"failed: {GAPCTL_ERROR_PREFIX.sub('', last)}; {where}, and the same command tries it again"
        lines.append(f"{labels[trial_id]} ({trial_id}) {failed}")
    interrupted = outcome.interrupted and stopped is None
    print_problems(lines)
    if interrupted:
        console.print("Interrupted; the same command goes on from the checkpoints of what was in training")
    if interrupted or lines:
        raise typer.Exit(INTERRUPTED if interrupted else 1)


def _build_budget(plan: Plan, ledger: Ledger, address: str | None) -> Budget:
    """Build the budget of the plan's limits, with what earlier runs spent of them.

    Raise InputError for a limit of money on this machine where its price is not known.
    """
    limits = plan.sweep.spec.limits
    if limits.cost is not None and address is None and find_machine_price(limits) is None:
        text = (
            f"found {limits.cost:g}, but of this machine no price is known; expected limits.price_per_hour beside it "
            "(what an hour of this machine costs you), or limits.hours instead"
        )
        raise InputError(plan.sweep.locate_problem(Problem(("limits", "cost"), text)))
    return Budget(plan, ledger, RunningCost(limits.price_per_hour))


def _explain_stop(plan: Plan, ledger: Ledger, budget: Budget, reason: str) -> str:
    """Return what a person reads when a sweep stopped: why, how many trainings are left, and how to go on.

    A limit of the sweep file is the reason where one was reached, else `reason`, which is the cluster's.
    """
    from gapctl.sweep.driver import find_remaining_work

    few = f" ({budget.unpriced} machines of unknown price were not counted)" if budget.unpriced else ""
    left, all_ = len(find_remaining_work(plan, ledger).left), len(plan.trainings)
    why, how = (f"{budget.reached}{few}", budget.resume_hint) if budget.reached else (reason, RESUME_WITH_MACHINES)
    return (
        f"{why}; {left} of {all_} trainings are left, those in training with checkpoints, and the "
        f"verdicts are about what is there. {how}"
    )


def delete_abandoned_files(plan: Plan, ledger: Ledger, console: SafeConsole) -> None:
    """Delete what killed writers left on a disk of this machine; object stores have no half-written files."""
    found = ledger.find_garbage([trial.id for trial in plan.trainings]) if ledger.disk is not None else []
    ledger.delete_files(found)
    if found:
        size = format_megabytes(sum(each.bytes for each in found), 1)
        console.print(f"deleted {len(found)} files ({size}) that killed processes left")


def warn_of_full_disks(
    plan: Plan, left: Sequence[Trial], ledger: Ledger, address: str | None, console: SafeConsole
) -> None:
    """Warn where a disk of this machine has little room for the training; raise InputError where it has too little."""
    disks = measure_disks(plan, left, ledger, address)
    for line in check_disk_space(disks, estimated_high=address is not None):
        console.print(line, soft_wrap=True)


def require_cluster(address: str | None, console: SafeConsole) -> None:
    """Raise InputError where no cluster answers at an address; do nothing for None, which is this machine."""
    if address is not None:
        with console.status(f"looking for a Ray cluster at {address}"):
            check_address(address)


@contextmanager
def start_local_ray(workers: int) -> Iterator[None]:
    """Start Ray with `workers` CPUs, whatever the machine has, so that no task waits for one; stop it at the end."""
    set_ray_environment(RAY_DATA_DISABLE_PROGRESS_BARS="1")
    import ray
    import ray.data

    with start_ray(num_cpus=workers):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield
        finally:
            ray.shutdown()
