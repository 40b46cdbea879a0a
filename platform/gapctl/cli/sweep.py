"""`gapctl sweep`: trains what is left of a sweep, shows how it goes, and ends in the verdicts."""

from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.ledger import Ledger
    from gapctl.plan.trials import Plan
    from gapctl.sweep.allowance import Allowance
    from gapctl.sweep.rounds import Outcome
    from gapctl.sweep.run import Remainder
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
    from gapctl.cli.context import plan_for
    from gapctl.cli.ending import conclude
    from gapctl.cli.find_cluster import find_cluster
    from gapctl.cli.limits import allowance_of, stopped_text
    from gapctl.cli.room import check_room, clear_leftovers, rooms_for
    from gapctl.cli.safe_console import SafeConsole
    from gapctl.data.mad.store import available_cores
    from gapctl.ledger import Ledger
    from gapctl.sweep.offer import check_this_machine
    from gapctl.tracking.tracker import Tracker
    from gapctl.tracking.uri import check_uri

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
    from gapctl.sweep.run import remainder

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
) -> "Outcome":
    from gapctl.cli.ending import within
    from gapctl.cli.preparing import load_data
    from gapctl.sweep.live import LiveTable
    from gapctl.sweep.log_lines import LogLines
    from gapctl.sweep.rounds import Outcome
    from gapctl.sweep.run import run_trials
    from gapctl.sweep.sweep_gauges import SweepGauges
    from gapctl.sweep.tracked import Tracked

    if not todo.left:
        return Outcome()
    gauges = SweepGauges(plan.sweep.spec.name, todo.left, len(todo.done))
    shown = LiveTable if console.is_terminal else LogLines

    def train() -> "Outcome":
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
    from gapctl.cli.artifacts import REPORT, findings_of
    from gapctl.cli.background import background_of
    from gapctl.cli.ending import keep_report
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
