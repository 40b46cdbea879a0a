"""`gapctl train`: one trial of a sweep in this process, without Ray."""

import time
import traceback
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.errors import GapctlError, WorkError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.config.sweep import Resources
    from gapctl.data.load import Material
    from gapctl.ledger import Claimant, Ledger, TrialFolder
    from gapctl.plan.plan import Trial
    from gapctl.sweep.lease_watch import Others, Standing
    from gapctl.sweep.worker import PackWork

INTERRUPTED = 130


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
    from gapctl.cli.options import plan_in
    from gapctl.cli.output import plain_console
    from gapctl.ledger import Claimant, Ledger
    from gapctl.plan.plan import trial_by_id

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
    claimant = Claimant.for_sweep(plan.sweep.spec.name)
    # Before a lease is held: Ctrl-C in the middle of torch's import ends the process at once.
    import gapctl.sweep.worker  # noqa: F401

    try:
        for each in (*preparations, chosen):
            folder = _taken(each, ledger, claimant, console)
            if folder is not None:
                _train_taken(each, folder, runs, plan.sweep.spec.resources, console)
    finally:
        ledger.note_begun(plan.sweep.spec.name)


def _taken(trial: "Trial", ledger: "Ledger", claimant: "Claimant", console: "Console") -> "TrialFolder | None":
    """The folder of a trial that is this process's to train, once no other trains it; None where another finished it.

    A failure elsewhere is no reason not to try.
    """
    from gapctl.ledger import Result
    from gapctl.sweep.lease_watch import Free, Others

    folder, others, told = ledger.trial(trial.id), Others(ledger), ""
    expired: bytes | None = None
    while (lease := folder.take(claimant, expired)) is not None:
        if lease.holder != told:
            console.print(f"{trial.label} ({trial.id}) is {lease.held_by} (another sweep); waiting for it")
            told = lease.holder
        standing = _standing(trial, others)
        if isinstance(standing, Result):
            break
        expired = standing.expired if isinstance(standing, Free) else None
    if folder.hold is not None and folder.result() is None:
        return folder
    folder.rest()
    _say_finished(trial, console)
    return None


def _standing(trial: "Trial", others: "Others") -> "Standing":
    """How a trial stands that another trains, after a while; where the ledger cannot be read, once it can."""
    from gapctl.sweep.lease_watch import LOOK_SECONDS

    standing: Standing | None = None
    while standing is None:
        try:
            time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        standing = others.look([trial.id]).get(trial.id)
    return standing


def _say_finished(trial: "Trial", console: "Console") -> None:
    console.print(f"{trial.label} ({trial.id}) was finished by another sweep; nothing to train")


def _train_taken(trial: "Trial", folder: "TrialFolder", runs: str, resources: "Resources", console: "Console") -> None:
    """Trains a trial that is this process's, whose lease is renewed while its data are read and made too."""
    from gapctl.cli.data_mad import load_data
    from gapctl.ledger import LeaseLostError
    from gapctl.sweep.lease_watch import Renewals

    with closing(Renewals(lambda: [folder])):
        try:
            _train(trial, load_data(trial.config.data, console), runs, resources, folder, console)
        except LeaseLostError:
            if folder.result() is None:
                raise
            _say_finished(trial, console)
        finally:
            folder.rest()


def _train(
    trial: "Trial", data: "Material", runs: str, resources: "Resources", folder: "TrialFolder", console: "Console"
) -> None:
    import torch

    from gapctl.sweep.worker import PackWork

    gpu = torch.cuda.is_available() if resources.gpus == "auto" else resources.gpus > 0
    try:
        work = PackWork([trial], data, runs, threads=resources.cpus, gpu=gpu, folders={trial.id: folder})
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
        raise typer.Exit(INTERRUPTED) from None
