"""`gapctl train`: train one trial of a sweep in this process, without Ray."""

import time
import traceback
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.completion import complete_trials
from gapctl.cli.console import SafeConsole, make_plain_console
from gapctl.cli.data import load_data
from gapctl.cli.options import (
    DEFAULT_RUNS,
    RunsOption,
    ScaleOption,
    SetOption,
    SweepFileArgument,
    load_plan_or_drawn_points,
)
from gapctl.config.sweep import Resources
from gapctl.errors import INTERRUPTED, GapctlError, WorkError
from gapctl.imports import collect_garbage_at_exit, import_without_garbage_collection
from gapctl.ledger import LeaseLostError, LeaseOwner, Ledger, Result, TrialFolder
from gapctl.plan.plan import Trial, find_trial

if TYPE_CHECKING:
    from gapctl.data.load import Dataset
    from gapctl.sweep.lease_watch import LeaseState, LeaseWatcher
    from gapctl.sweep.pack_work import PackWork


def train_command(
    file: SweepFileArgument,
    trial: Annotated[
        str,
        typer.Option(
            "--trial",
            help="The trial's id, or the beginning of it.",
            metavar="ID",
            autocompletion=complete_trials,
        ),
    ],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """One trial in this process, with the same numbers as in a sweep; before it, what it begins with.

    Where the sweep would use several workers, one takes their steps here. Numbers then agree but for rounding, a
    ResNet's excepted, which normalises by what one worker sees.
    """
    ledger, console = Ledger(runs), make_plain_console(stderr=True)
    plan = load_plan_or_drawn_points(file, scale, overrides, ledger)
    chosen = find_trial(plan, trial)
    if ledger.result(chosen.id) is not None:
        console.print(f"{chosen.label} ({chosen.id}) is done; nothing to train")
        return
    ledger.require_writable()
    if plan.sweep.spec.search is None:
        ledger.declare_plan(plan)
    preparations = [each for each in plan.trainings if each.id == chosen.parent and ledger.result(each.id) is None]
    claimant = LeaseOwner.for_sweep(plan.sweep.spec.name)
    # Import before taking a lease: Ctrl-C in the middle of torch's import ends the process at once.
    import_without_garbage_collection("gapctl.sweep.pack_work")
    collect_garbage_at_exit()

    try:
        for each in (*preparations, chosen):
            folder = _acquire_trial(each, ledger, claimant, console)
            if folder is not None:
                _train_with_lease(each, folder, runs, plan.sweep.spec.resources, console)
    finally:
        ledger.record_start(plan.sweep.spec.name)


def _acquire_trial(trial: Trial, ledger: Ledger, claimant: LeaseOwner, console: SafeConsole) -> TrialFolder | None:
    """Acquire a trial's lease and return its folder, once no other process trains it.

    Return None where another process finished it. A failure elsewhere does not prevent another attempt.
    """
    from gapctl.sweep.lease_watch import LeaseWatcher, Released

    folder, others, told = ledger.trial(trial.id), LeaseWatcher(ledger), ""
    expired: bytes | None = None
    while (lease := folder.acquire(claimant, expired)) is not None:
        if lease.holder != told:
            console.print(f"{trial.label} ({trial.id}) is {lease.held_by} (another sweep); waiting for it")
            told = lease.holder
        standing = _await_lease_state(trial, others)
        if isinstance(standing, Result):
            break
        expired = standing.expired if isinstance(standing, Released) else None
    if folder.handle is not None and folder.result() is None:
        return folder
    folder.release()
    _announce_remote_finish(trial, console)
    return None


def _await_lease_state(trial: Trial, others: "LeaseWatcher") -> "LeaseState":
    """Wait, and return the state of a trial that another process trains; wait longer while the ledger is unreadable."""
    from gapctl.sweep.lease_watch import LEASE_CHECK_SECONDS

    standing: LeaseState | None = None
    while standing is None:
        try:
            time.sleep(LEASE_CHECK_SECONDS)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        standing = others.check_leases([trial.id]).get(trial.id)
    return standing


def _announce_remote_finish(trial: Trial, console: SafeConsole) -> None:
    console.print(f"{trial.label} ({trial.id}) was finished by another sweep; nothing to train")


def _train_with_lease(trial: Trial, folder: TrialFolder, runs: str, resources: Resources, console: SafeConsole) -> None:
    """Train a trial whose lease this process holds; renew the lease while its data are read and made too."""
    from gapctl.sweep.lease_watch import LeaseRenewer

    with closing(LeaseRenewer(lambda: [folder])):
        try:
            _train_trial(trial, load_data(trial.config.data, console), runs, resources, folder, console)
        except LeaseLostError:
            if folder.result() is None:
                raise
            _announce_remote_finish(trial, console)
        finally:
            folder.release()


def _train_trial(
    trial: Trial, data: "Dataset", runs: str, resources: Resources, folder: TrialFolder, console: SafeConsole
) -> None:
    import torch

    from gapctl.sweep.pack_work import PackWork

    gpu = torch.cuda.is_available() if resources.gpus == "auto" else resources.gpus > 0
    try:
        work = PackWork([trial], data, runs, threads=resources.cpus, gpu=gpu, folders={trial.id: folder})
        _advance_to_end(work, trial, console)
    except (GapctlError, typer.Exit):
        raise
    except Exception as error:
        folder.fail(traceback.format_exc())
        said = f"{trial.label} ({trial.id}) failed: {type(error).__name__}: {error}"
        raise WorkError(f"{said}; its traceback is in {folder.path('failure.txt')}") from error


def _advance_to_end(work: "PackWork", trial: Trial, console: SafeConsole) -> None:
    try:
        while True:
            (report,) = work.train_for(seconds=2.0)
            progress = "measured, nothing to train"
            if total := report["samples_total"]:
                share, speed = report["samples_seen"] / total, report["samples_per_second"]
                progress = f"{share:4.0%}, loss {report['loss']:.3f}, {speed:,.0f} samples/s"
            console.print(f"{trial.label}: {progress}")
            if report["done"]:
                return
    except KeyboardInterrupt:
        work.save_and_stop()
        console.print("Interrupted; a checkpoint was written, and the same command goes on from it")
        raise typer.Exit(INTERRUPTED) from None
