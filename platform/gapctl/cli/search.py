"""`gapctl sweep` of a file with `search`: draw and train the remaining points, and end with the best configuration.

`run_search_sweep` holds the study's lock and lease, trains through a `SearchController`, and reports the best point;
`print_search` prints a search for `gapctl analyze` too.
"""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.plan import Plan
    from gapctl.sweep.budget import Budget
    from gapctl.sweep.driver import SweepOutcome
    from gapctl.sweep.progress import SearchLog
    from gapctl.sweep.search import SearchController
    from gapctl.tracking.tracker import Tracker


def run_search_sweep(plan: "Plan", ledger: "Ledger", budget: "Budget", address: str | None, console: "Console") -> None:
    """Run the search of a plan that `load_plan` made; exit as a sweep does."""
    from gapctl.cli.options import compute_fingerprint
    from gapctl.cli.sweep import exit_on_problems
    from gapctl.plan.plan import get_search, name_study
    from gapctl.sweep.progress import SearchLog
    from gapctl.sweep.search import SearchController, format_search_name, hold_search_lease
    from gapctl.sweep.study import Study, locate_study_file, lock_study_file
    from gapctl.tracking.tracker import Tracker

    sweep, lines = plan.sweep, SearchLog(console)
    _prepare_disks(plan, ledger, address, console)
    file = locate_study_file(ledger, sweep.spec.name, Path.cwd())
    with (
        lock_study_file(file),
        hold_search_lease(
            ledger, format_search_name(sweep), partial(console.print, highlight=False, markup=False)
        ) as require,
        Tracker(plan, ledger, sweep.spec.tracking.uri) as tracker,
    ):
        name = name_study(sweep, plan.trials[0].data_fingerprint)

        def changed(drawn: "Plan", record: "SearchRecord") -> None:
            tracker.update_plan(drawn)
            lines.note_change(drawn, record)

        controller = SearchController(sweep, Study(get_search(sweep), name, file), ledger, compute_fingerprint, require)
        _print_remaining(controller, console)
        controller.set_listener(changed)
        outcome = _train_points(plan, controller, ledger, lines, tracker, budget, address, console)
        record = controller.close_search()
        if not outcome.interrupted:
            _report_best(controller.plan, record, ledger, tracker, console)
            console.print(f"study: {file}", highlight=False, markup=False, soft_wrap=True)
        tracked = tracker.close()
    ended_early = outcome.interrupted and bool(budget.reached or outcome.reason)
    stopped = _explain_stop(controller, budget, outcome.reason) if ended_early else None
    problems = [*controller.damaged.values(), *controller.elsewhere.values(), tracked.problem]
    labels = {trial.id: trial.label for trial in controller.trials.values()}
    exit_on_problems(problems, outcome, labels, stopped, console)


def _prepare_disks(plan: "Plan", ledger: "Ledger", address: str | None, console: "Console") -> None:
    """Delete what killed writers left of the drawn points, and check the disks for the remaining ones."""
    from gapctl.cli.options import load_search_plan, read_search_record
    from gapctl.cli.sweep import check_disk_space, delete_garbage, measure_disks
    from gapctl.plan.plan import get_search, list_planned_trainings

    record = read_search_record(plan, ledger)
    drawn = [] if record is None else record.drawn
    ended = sum(each.state in ("done", "stopped") for each in drawn)
    left = list_planned_trainings(plan)[: max(0, get_search(plan.sweep).trials - ended)]
    if drawn and left:
        delete_garbage(load_search_plan(plan, ledger), ledger, console)
    if left:
        check_disk_space(measure_disks(plan, left, ledger, address), console, estimated_high=address is not None)


def _explain_stop(controller: "SearchController", budget: "Budget", reason: str) -> str:
    from gapctl.cli.sweep import RESUME_WITH_MACHINES

    record = controller.record
    why, how = (budget.reached, budget.resume_hint) if budget.reached else (reason, RESUME_WITH_MACHINES)
    ended = sum(drawn.state in ("done", "stopped") for drawn in record.drawn)
    return f"{why}; {record.asked - ended} of {record.asked} points are left, those in training with checkpoints. {how}"


def _print_remaining(controller: "SearchController", console: "Console") -> None:
    record, spec = controller.record, controller.plan.sweep.spec
    scale = f", scale {controller.plan.sweep.scale}" if controller.plan.sweep.scale else ""
    ended = sum(drawn.state in ("done", "stopped") for drawn in record.drawn)
    going_on = sum(drawn.state == "running" for drawn in record.drawn)
    left = (
        "nothing is left to do"
        if controller.complete
        else f"{max(0, record.asked - ended)} of {record.asked} points to train"
    )
    kept = f", {ended} ended before" if ended and not controller.complete else ""
    again = f", {going_on} of them go on" if going_on else ""
    console.print(f"{spec.name}{scale}: {left}{kept}{again}", highlight=False)


def _train_points(
    plan: "Plan",
    controller: "SearchController",
    ledger: "Ledger",
    lines: "SearchLog",
    tracker: "Tracker",
    budget: "Budget",
    address: str | None,
    console: "Console",
) -> "SweepOutcome":
    from gapctl.cli.data_mad import load_data
    from gapctl.cli.sweep import require_cluster, train_within_budget
    from gapctl.sweep.driver import SweepOutcome
    from gapctl.sweep.progress import TrackerWatcher
    from gapctl.sweep.search import run_search

    if controller.complete:
        return SweepOutcome()
    require_cluster(address, console)
    data = plan.sweep.spec.base.data

    def train() -> "SweepOutcome":
        return run_search(
            controller,
            ledger,
            resources=plan.sweep.spec.resources,
            data={data.address: load_data(data, console, announce=True)},
            watchers=[lines, TrackerWatcher(tracker)],
            address=address,
            stopped=lambda: bool(budget.reached),
        )

    return train_within_budget(budget, train)


def _report_best(
    plan: "Plan", record: "SearchRecord", ledger: "Ledger", tracker: "Tracker", console: "Console"
) -> None:
    """Report the best point and the table on the terminal, in MLflow and in the report."""
    from gapctl.cli.run_record import REPORT_FILE, summarise_search
    from gapctl.cli.sweep import store_report

    print_search(plan, record)
    tracker.wait_until_shown()
    summary = summarise_search(plan, record, ledger)
    tracker.tell(summary)
    store_report(plan, summary.files[REPORT_FILE], ledger, console)


MAX_ROWS: Final = 10


def print_search(plan: "Plan", record: "SearchRecord") -> None:
    """Print the points, best first, and the best one as `--set` options and as YAML."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.output import make_plain_console
    from gapctl.plan.plan import shorten_paths
    from gapctl.report.search_page import format_base_yaml, format_set_options, summarise_search

    console = make_plain_console()
    console.print(Text(f"{plan.sweep.spec.question}\n{summarise_search(record)}"))
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
        table.add_row(drawn.trial, *map(Text, point), drawn.state, f"{drawn.samples_seen:,}", value)
    console.print(table)
    if len(record.drawn) > MAX_ROWS:
        console.print(f"and {len(record.drawn) - MAX_ROWS} more")
    if record.best is not None:
        console.print(f"\nbest, to be typed:\n  {format_set_options(record.best)}")
        console.print(f"and to be pasted:\n{format_base_yaml(record.best)}")
