"""`gapctl clean`: list files of a ledger that nothing needs, and delete them with `--yes`."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from gapctl.cli.console import make_plain_console
from gapctl.cli.options import DEFAULT_RUNS, RunsOption, ScaleOption, SetOption, SweepFileArgument
from gapctl.cli.output import format_megabytes
from gapctl.ledger import Ledger
from gapctl.ledger.ledger import GarbageKind

KIND_PLURALS: Final[Mapping[GarbageKind, str]] = {
    "half-written file": "half-written files",
    "checkpoint of a finished training": "checkpoints of finished trainings",
    "final weights": "final weights",
}


def clean_command(
    file: SweepFileArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    weights: Annotated[
        bool,
        typer.Option(
            "--weights", help="Also the final weights of finished trainings, which `--trial` of other verbs needs."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only say what would go.")] = False,
) -> None:
    """Delete what killed writers left of a sweep's trainings, and checkpoints of finished ones.

    Results, histories and checkpoints of unfinished trainings stay, and weights that other trainings begin with.
    """
    from gapctl.cli.options import load_plan_or_drawn_points

    ledger = Ledger(runs)
    plan = load_plan_or_drawn_points(file, scale, overrides, ledger)
    parents = {trial.parent for trial in plan.trials}
    without = [trial.id for trial in plan.trainings if weights and trial.id not in parents]
    found = ledger.find_garbage([trial.id for trial in plan.trainings], weights_of=without)
    if yes:
        ledger.delete_files(found)
    kinds = Counter(each.kind for each in found)
    listed = ", ".join(f"{count} {KIND_PLURALS[kind] if count > 1 else kind}" for kind, count in kinds.items())
    size = format_megabytes(sum(each.bytes for each in found), 1)
    deleted = f"deleted {size}: {listed}" if yes else f"{size} could go: {listed}. Delete them with --yes"
    make_plain_console().print(deleted if found else "nothing to delete")
