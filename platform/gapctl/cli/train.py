"""`gapctl train`: one trial of a sweep in this process, without Ray."""

import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.errors import GapctlError, WorkError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.data.load import Material
    from gapctl.plan.trials import Trial
    from gapctl.spec.sweep import Resources
    from gapctl.sweep.work import PackWork


def train_command(
    file: SweepFileArgument,
    trial: Annotated[str, typer.Option("--trial", help="The trial's id, or the beginning of it.", metavar="ID")],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """One trial in this process, with the same numbers as in a sweep; before it, what it begins with.

    Where the sweep would use several workers, one takes their steps here. Numbers then agree but for rounding, a
    ResNet's excepted, which normalises by what one worker sees.
    """
    from gapctl.cli.drawn import plan_in
    from gapctl.cli.preparing import load_data
    from gapctl.cli.terminal import plain_console
    from gapctl.ledger import Ledger
    from gapctl.plan.choose import trial_by_id

    ledger, console = Ledger(runs), plain_console(stderr=True)
    plan = plan_in(file, scale, overrides, ledger)
    chosen = trial_by_id(plan, trial)
    if ledger.result(chosen.id) is not None:
        console.print(f"{chosen.label} ({chosen.id}) is done; nothing to train")
        return
    ledger.require_writable()
    if plan.sweep.spec.search is None:
        ledger.declare(plan)
    preparations = [each for each in plan.trainings if each.id == chosen.parent and ledger.result(each.id) is None]
    try:
        for each in (*preparations, chosen):
            _train(each, load_data(each.config.data, console), runs, plan.sweep.spec.resources, console)
    finally:
        ledger.note_begun(plan.sweep.spec.name)


def _train(trial: "Trial", data: "Material", runs: str, resources: "Resources", console: "Console") -> None:
    from gapctl.ledger import Ledger
    from gapctl.sweep.work import PackWork

    folder = Ledger(runs).trial(trial.id)
    try:
        work = PackWork([trial], data, runs, threads=resources.cpus, gpu=resources.gpus != 0)
        _advance(work, trial, console)
    except (GapctlError, typer.Exit):
        raise
    except Exception as error:
        folder.fail(traceback.format_exc())
        said = f"{trial.label} ({trial.id}) failed: {type(error).__name__}: {error}"
        raise WorkError(f"{said}; its traceback is in {folder.path('failure.txt')}") from error


def _so_far(report: dict[str, Any]) -> str:
    if not report["samples_total"]:
        return "measured, nothing to train"
    share = report["samples_seen"] / report["samples_total"]
    return f"{share:4.0%}, loss {report['loss']:.3f}, {report['samples_per_second']:,.0f} samples/s"


def _advance(work: "PackWork", trial: "Trial", console: "Console") -> None:
    try:
        while True:
            (report,) = work.advance(seconds=2.0)
            console.print(f"{trial.label}: {_so_far(report)}")
            if report["done"]:
                return
    except KeyboardInterrupt:
        work.interrupt()
        console.print("Interrupted; a checkpoint was written, and the same command goes on from it")
        raise typer.Exit(130) from None
