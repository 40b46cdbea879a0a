"""`gapctl sweep` of a file with `search`: draws and trains what is left, and ends in the best configuration."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.trials import Plan
    from gapctl.sweep.allowance import Allowance
    from gapctl.sweep.course import Course
    from gapctl.sweep.rounds import Outcome
    from gapctl.sweep.search_lines import SearchLines
    from gapctl.tracking.tracker import Tracker


def run_search_of(
    plan: "Plan", ledger: "Ledger", allowance: "Allowance", address: str | None, console: "Console"
) -> None:
    """Runs the search of a plan that `plan_for` made and checked; exits as a sweep does."""
    from gapctl.cli.context import fingerprint_of
    from gapctl.cli.ending import conclude
    from gapctl.plan.search import search_of, study_name
    from gapctl.sweep.course import Course, search_name
    from gapctl.sweep.search_lease import alone_in_ledger
    from gapctl.sweep.search_lines import SearchLines
    from gapctl.sweep.study import Study
    from gapctl.sweep.study_file import alone, study_file
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
    from gapctl.cli.drawn import drawn_plan, record_of
    from gapctl.cli.room import check_room, clear_leftovers, rooms_for
    from gapctl.plan.search import search_of, to_be_trained

    record = record_of(plan, ledger)
    drawn = [] if record is None else record.drawn
    ended = sum(each.state in ("done", "stopped") for each in drawn)
    left = to_be_trained(plan)[: max(0, search_of(plan.sweep).trials - ended)]
    if drawn and left:
        clear_leftovers(drawn_plan(plan, ledger), ledger, console)
    if left:
        check_room(rooms_for(plan, left, ledger, address), console, estimated_high=address is not None)


def _stopped_text(course: "Course", allowance: "Allowance", reason: str) -> str:
    from gapctl.cli.limits import WITH_MACHINES

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
) -> "Outcome":
    from gapctl.cli.ending import within
    from gapctl.cli.find_cluster import find_cluster
    from gapctl.cli.preparing import load_data
    from gapctl.sweep.rounds import Outcome
    from gapctl.sweep.search import run_search
    from gapctl.sweep.tracked import Tracked

    if course.complete:
        return Outcome()
    find_cluster(address, console)
    data = plan.sweep.spec.base.data

    def train() -> "Outcome":
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
    from gapctl.cli.artifacts import REPORT, search_findings
    from gapctl.cli.ending import keep_report
    from gapctl.cli.search_table import print_search

    print_search(plan, record)
    tracker.catch_up()
    findings = search_findings(plan, record, ledger)
    tracker.tell(findings)
    keep_report(plan, findings.files[REPORT], ledger, console)
