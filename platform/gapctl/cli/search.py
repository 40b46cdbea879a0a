"""`gapctl sweep` of a file with `search`: draw and train the remaining points, and end with the best configuration.

`run_search_sweep` holds the search's lease, trains through a `SearchController`, and reports the best point;
`print_search_points` prints a search for `gapctl analyze` too.
"""

import math
from typing import TYPE_CHECKING, Final

from rich.table import Table

from gapctl.cli.console import SafeConsole, make_plain_console
from gapctl.cli.data import load_data
from gapctl.cli.options import compute_data_source_fingerprint, plan_drawn_search_points, read_search_record
from gapctl.cli.report_contents import REPORT_FILE, summarise_search
from gapctl.cli.sweep import (
    RESUME_WITH_MACHINES,
    delete_abandoned_files,
    exit_after_training,
    require_cluster,
    store_and_announce_report,
    train_within_budget,
    warn_of_full_disks,
)
from gapctl.ledger import Ledger
from gapctl.ledger.search_record import SearchRecord, count_ended_points
from gapctl.plan.plan import Plan, get_search, list_planned_trainings, name_study, shorten_paths
from gapctl.sweep.budget import Budget
from gapctl.sweep.progress import SearchLog
from gapctl.sweep.study import Study
from gapctl.tracking.tracker import Tracker

if TYPE_CHECKING:
    from gapctl.sweep.search import SearchController

MAX_ROWS: Final = 10


def run_search_sweep(plan: Plan, ledger: Ledger, budget: Budget, address: str | None, console: SafeConsole) -> None:
    """Run the search of a plan that `load_plan` made; exit as a sweep does."""
    from gapctl.sweep.driver import SweepOutcome
    from gapctl.sweep.search import SearchController, format_search_name, hold_search_lease, run_search

    sweep, lines = plan.sweep, SearchLog(console)
    _prepare_disks(plan, ledger, address, console)
    with (
        hold_search_lease(ledger, format_search_name(sweep), console.print) as require,
        Tracker(plan, ledger, sweep.spec.tracking.uri) as tracker,
    ):
        name = name_study(sweep, plan.trials[0].data_fingerprint)

        def changed(drawn: Plan, record: SearchRecord) -> None:
            tracker.update_plan(drawn)
            lines.note_change(drawn, record)

        controller = SearchController(
            sweep, Study(get_search(sweep), name), ledger, compute_data_source_fingerprint, require
        )
        _print_remaining(controller, console)
        controller.set_listener(changed)

        def train() -> SweepOutcome:
            data = sweep.spec.base.data
            return run_search(
                controller,
                ledger,
                resources=sweep.spec.resources,
                data={data.address: load_data(data, console, announce=True)},
                watchers=[lines, tracker],
                address=address,
                stopped=budget.check_limits,
            )

        outcome = SweepOutcome()
        if not controller.complete:
            require_cluster(address, console)
            outcome = train_within_budget(budget, train)
        record = controller.close_search()
        if not outcome.interrupted:
            print_search_points(controller.plan, record)
            tracker.wait_until_shown()
            summary = summarise_search(controller.plan, record, ledger)
            tracker.tell(summary)
            store_and_announce_report(controller.plan, summary.files[REPORT_FILE], ledger, console)
        tracked = tracker.close()
    ended_early = outcome.interrupted and bool(budget.reached or outcome.reason)
    stopped = _explain_stop(controller, budget, outcome.reason) if ended_early else None
    problems = [*controller.damaged.values(), *controller.elsewhere.values(), tracked.problem]
    labels = {trial.id: trial.label for trial in controller.trials.values()}
    exit_after_training(problems, outcome, labels, stopped, console)


def _prepare_disks(plan: Plan, ledger: Ledger, address: str | None, console: SafeConsole) -> None:
    """Delete what killed writers left of the drawn points, and check the disks for the remaining ones."""
    record = read_search_record(plan, ledger)
    left = list_planned_trainings(plan)[: max(0, get_search(plan.sweep).trials - count_ended_points(record))]
    if left and record is not None and record.drawn:
        delete_abandoned_files(plan_drawn_search_points(plan, ledger), ledger, console)
    if left:
        warn_of_full_disks(plan, left, ledger, address, console)


def _explain_stop(controller: "SearchController", budget: Budget, reason: str) -> str:
    record = controller.record
    why, how = (budget.reached, budget.resume_hint) if budget.reached else (reason, RESUME_WITH_MACHINES)
    left = f"{record.asked - count_ended_points(record)} of {record.asked} points are left"
    return f"{why}; {left}, those in training with checkpoints. {how}"


def _print_remaining(controller: "SearchController", console: SafeConsole) -> None:
    record, sweep = controller.record, controller.plan.sweep
    scale = f", scale {sweep.scale}" if sweep.scale else ""
    ended, going_on = count_ended_points(record), sum(drawn.state == "running" for drawn in record.drawn)
    left = f"{max(0, record.asked - ended)} of {record.asked} points to train"
    if controller.complete:
        left = "nothing is left to do"
    elif ended:
        left += f", {ended} ended before"
    again = f", {going_on} of them go on" if going_on else ""
    console.print(f"{sweep.spec.name}{scale}: {left}{again}")


def print_search_points(plan: Plan, record: SearchRecord) -> None:
    """Print the points, best first, and the best one as `--set` options and as YAML."""
    from gapctl.report.search_page import format_base_yaml, format_set_options, summarise_search

    console = make_plain_console()
    console.print(f"{plan.sweep.spec.question}\n{summarise_search(record)}")
    names = shorten_paths(list(plan.sweep.spec.vary))
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for name in (*names.values(), "ended"):
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in ("samples", "value"):
        table.add_column(name, justify="right", no_wrap=True)
    for drawn in record.ranked[:MAX_ROWS]:
        value = f"{drawn.value:.4g}" if math.isfinite(drawn.value) else "-"
        point = [str(drawn.point[path]) for path in names]
        table.add_row(drawn.trial, *point, drawn.state, f"{drawn.samples_seen:,}", value)
    console.print(table)
    if len(record.drawn) > MAX_ROWS:
        console.print(f"and {len(record.drawn) - MAX_ROWS} more")
    if record.best is not None:
        console.print(f"\nbest, to be typed:\n  {format_set_options(record.best)}")
        console.print(f"and to be pasted:\n{format_base_yaml(record.best)}")
