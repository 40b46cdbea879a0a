"""The commands that give a page's numbers again, as they are to be typed."""

import shlex
from typing import NamedTuple

from gapctl.ledger import Ledger
from gapctl.plan.as_typed import as_typed, for_ui
from gapctl.plan.trials import Plan


class Commands(NamedTuple):
    """Training what is left, judging anew, training one trial alone (`TRIAL` stands for its id), looking at runs."""

    sweep: str
    analyze: str
    train: str
    ui: str


def commands_of(plan: Plan, ledger: Ledger) -> Commands:
    """The commands with this plan's file, scale and `--set` options, and this ledger's folder."""
    same = as_typed(plan, ledger.root)
    return Commands(
        sweep=shlex.join(["gapctl", "sweep", *same]),
        analyze=shlex.join(["gapctl", "analyze", *same, "--out", "report.html"]),
        train=shlex.join(["gapctl", "train", *same, "--trial", "TRIAL"]),
        ui=shlex.join(["gapctl", "ui", *for_ui(plan.sweep)]),
    )


def default_sweep_command(sweep: str, scale: str | None) -> str:
    """The command for a file where sweeps usually are, when nothing but its name is known."""
    return shlex.join(["gapctl", "sweep", f"sweeps/{sweep}.yaml", *(["--scale", scale] if scale else [])])
