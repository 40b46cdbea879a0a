"""`gapctl sweep` of a file with `search`: draws and trains what is left, and ends in the best configuration."""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.plan import Plan
    from gapctl.sweep.budget import Allowance
    from gapctl.sweep.driver import SweepOutcome
    from gapctl.sweep.progress import SearchLines
    from gapctl.sweep.search import Course
    from gapctl.tracking.tracker import Tracker


def run_search_of(
    plan: "Plan", ledger: "Ledger", allowance: "Allowance", address: str | None, console: "Console"
) -> None:
    """Runs the search of a plan that `plan_for` made and checked; exits as a sweep does."""
    from gapctl.cli.options import fingerprint_of
    from gapctl.cli.sweep import conclude
    from gapctl.plan.plan import search_of, study_name
    from gapctl.sweep.progress import SearchLines
    from gapctl.sweep.search import Course, alone_in_ledger, search_name
    from gapctl.sweep.study import Study, alone, study_file
    from gapctl.tracking.tracker import Tracker

    sweep, lines = plan.sweep, SearchLines(console)
    _make_room(plan, ledger, address, console)
    file = study_file(ledger, sweep.spec.name, Path.cwd())
    with (
        alone(file),
        alone_in_ledger(ledger, search_name(sweep), partial(console.print, highlight=False, markup=False)) as require,
        Tracker(plan, ledger, sweep.spec.tracking.uri) as tracker,
    ):
        name = study_name(sweep, plan.trials[0].data_fingerprint)

        def changed(drawn: "Plan", record: "SearchRecord") -> None:
            tracker.replan(drawn)
            lines.changed(drawn, record)

        course = Course(sweep, Study(search_of(sweep), name, file), ledger, fingerprint_of, require)
        _say_what_is_left(course, console)
        course.tell(changed)
        outcome = _train(plan, course, ledger, lines, tracker, allowance, address, console)
        record = course.close()
        if not outcome.interrupted:
            _show(course.plan, record, ledger, tracker, console)
            console.print(f"study: {file}", highlight=False, markup=False, soft_wrap=True)
        tracked = tracker.close()
    ended_early = outcome.interrupted and bool(allowance.reached or outcome.reason)
    stopped = _stopped_text(course, allowance, outcome.reason) if ended_early else None
    problems = [*course.damaged.values(), *course.elsewhere.values(), tracked.problem]
    labels = {trial.id: trial.label for trial in course.trials.values()}
    conclude(problems, outcome, labels, stopped, console)


def _make_room(plan: "Plan", ledger: "Ledger", address: str | None, console: "Console") -> None:
    """Deletes what killed writers left of its points, and asks whether the disks have room for those that are left."""
    from gapctl.cli.options import drawn_plan, record_of
    from gapctl.cli.sweep import check_room, clear_leftovers, rooms_for
    from gapctl.plan.plan import search_of, to_be_trained

    record = record_of(plan, ledger)
    drawn = [] if record is None else record.drawn
    ended = sum(each.state in ("done", "stopped") for each in drawn)
    left = to_be_trained(plan)[: max(0, search_of(plan.sweep).trials - ended)]
    if drawn and left:
        clear_leftovers(drawn_plan(plan, ledger), ledger, console)
    if left:
        check_room(rooms_for(plan, left, ledger, address), console, estimated_high=address is not None)


def _stopped_text(course: "Course", allowance: "Allowance", reason: str) -> str:
    from gapctl.cli.sweep import WITH_MACHINES

    record = course.record
    why, how = (allowance.reached, allowance.how_to_go_on) if allowance.reached else (reason, WITH_MACHINES)
    ended = sum(drawn.state in ("done", "stopped") for drawn in record.drawn)
    return f"{why}; {record.asked - ended} of {record.asked} points are left, those in training with checkpoints. {how}"


def _say_what_is_left(course: "Course", console: "Console") -> None:
    record, spec = course.record, course.plan.sweep.spec
    scale = f", scale {course.plan.sweep.scale}" if course.plan.sweep.scale else ""
    ended = sum(drawn.state in ("done", "stopped") for drawn in record.drawn)
    going_on = sum(drawn.state == "running" for drawn in record.drawn)
    left = (
        "nothing is left to do"
        if course.complete
        else f"{max(0, record.asked - ended)} of {record.asked} points to train"
    )
    kept = f", {ended} ended before" if ended and not course.complete else ""
    again = f", {going_on} of them go on" if going_on else ""
    console.print(f"{spec.name}{scale}: {left}{kept}{again}", highlight=False)


def _train(
    plan: "Plan",
    course: "Course",
    ledger: "Ledger",
    lines: "SearchLines",
    tracker: "Tracker",
    allowance: "Allowance",
    address: str | None,
    console: "Console",
) -> "SweepOutcome":
    from gapctl.cli.data_mad import load_data
    from gapctl.cli.sweep import find_cluster, within
    from gapctl.sweep.driver import SweepOutcome
    from gapctl.sweep.progress import Tracked
    from gapctl.sweep.search import run_search

    if course.complete:
        return SweepOutcome()
    find_cluster(address, console)
    data = plan.sweep.spec.base.data

    def train() -> "SweepOutcome":
        return run_search(
            course,
            ledger,
            resources=plan.sweep.spec.resources,
            data={data.address: load_data(data, console, announce=True)},
            watchers=[lines, Tracked(tracker)],
            address=address,
            stopped=lambda: bool(allowance.reached),
        )

    return within(allowance, train)


def _show(plan: "Plan", record: "SearchRecord", ledger: "Ledger", tracker: "Tracker", console: "Console") -> None:
    """The best point and the table, on the terminal, in MLflow and in the report."""
    from gapctl.cli.run_record import REPORT, search_findings
    from gapctl.cli.sweep import keep_report

    print_search(plan, record)
    tracker.catch_up()
    findings = search_findings(plan, record, ledger)
    tracker.tell(findings)
    keep_report(plan, findings.files[REPORT], ledger, console)


MOST_ROWS: Final = 10


def print_search(plan: "Plan", record: "SearchRecord") -> None:
    """Prints the points, best first, how much each value decides, and the best as `--set` options and as YAML."""
    from rich.table import Table
    from rich.text import Text

    from gapctl.cli.output import plain_console
    from gapctl.plan.plan import short_names
    from gapctl.report.search_page import as_options, as_yaml, standing

    console = plain_console()
    console.print(Text(f"{plan.sweep.spec.question}\n{standing(record)}"))
    names = short_names(list(plan.sweep.spec.vary))
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for name in (*names.values(), "ended"):
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in ("samples", "value"):
        table.add_column(name, justify="right", no_wrap=True)
    for drawn in record.ranked[:MOST_ROWS]:
        value = f"{drawn.value:.4g}" if math.isfinite(drawn.value) else "-"
        point = [str(drawn.point[path]) for path in names]
        table.add_row(drawn.trial, *map(Text, point), drawn.state, f"{drawn.samples_seen:,}", value)
    console.print(table)
    if len(record.drawn) > MOST_ROWS:
        console.print(f"and {len(record.drawn) - MOST_ROWS} more")
    if record.best is not None:
        typed = f"\nbest, to be typed:\n  {as_options(record.best)}\nand to be pasted:\n{as_yaml(record.best)}"
        console.print(typed)
